"""The one error that a person, not a programmer, is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager

OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # PyTorch's words, on a GPU and a CPU


class UserError(Exception):
    """Says in one line what is wrong and what to do; the command line exits with code 2."""

    def _render_traceback_(self) -> list[str]:
        """Returns what a notebook shows in place of the traceback."""
        return [f"deepnets: {self}"]


@contextmanager
def explain_out_of_memory(where: str = "") -> Iterator[None]:
    """Turns running out of memory into a UserError whose line begins with `where`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # PyTorch has no error of its own for a CPU
        if isinstance(error, RuntimeError) and not any(w in str(error) for w in OUT_OF_MEMORY):
            raise
        advice = "take a smaller batch_size, input size or network, or fewer --jobs"
        raise UserError(f"{where}out of memory; {advice}") from None
