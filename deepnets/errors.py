"""The one error that a person, not a programmer, is meant to read, and how to tell another that people cause."""


class UserError(Exception):
    """What is wrong and what to do about it, in one line; the command line prints it and exits with code 2."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of the calls that led here."""
        return [f"deepnets: {self}"]


def out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough of it; for a processor's torch has no error of its own."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in ("out of memory", "can't allocate memory"))
