"""The console that everything here is told on, by rich."""

from rich.console import Console


class PipedConsole(Console):
    """A console that raises BrokenPipeError where nobody reads it any more, as ``print`` does.

    Rich's own would end the process there and then, with code 1.
    """

    def on_broken_pipe(self) -> None:
        """Rich calls it where it caught a BrokenPipeError."""
        raise BrokenPipeError
