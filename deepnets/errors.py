"""The one error that a person, not a programmer, is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What is wrong and what to do about it, in one line; the command line prints it and exits with
    code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of the calls that led here."""
        return [f"deepnets: {self}"]


@contextmanager
def lack_of_memory_told(where: str = "") -> Iterator[None]:
    """Running out of memory within is a UserError, `where` before its words. For a processor torch
    has no error of its own.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(
            words in str(error) for words in ("out of memory", "can't allocate memory")
        ):
            advice = "take a smaller batch_size, input size or network, or fewer --jobs"
            raise UserError(f"{where}out of memory; {advice}") from None
        raise
