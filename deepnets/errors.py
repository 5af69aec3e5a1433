"""The one error that a person, not a programmer, is meant to read."""


class UserError(Exception):
    """What is wrong and what to do about it, in one line; the command line prints it and exits with code 2."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of the calls that led here."""
        return [f"deepnets: {self}"]
