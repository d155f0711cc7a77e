"""What a person sees: our own lines, and those of the processes with their names before them."""

import io
import sys
from pathlib import Path

from deploy.local.process import LineSink, StartError

COLOURS = (36, 33, 32, 35, 34, 31)
OURS = "reelway"


class Output:
    """Where lines go.

    Args:
        width: of the longest name.
        log_dir: each process's lines go to a file of its name there; None: to the terminal.
    """

    def __init__(self, width: int, log_dir: Path | None) -> None:
        self._width = max(width, len(OURS))
        self._log_dir = log_dir
        self._coloured = sys.stdout is not None and sys.stdout.isatty()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # What is said has letters that a terminal of another encoding lacks.
            sys.stdout.reconfigure(errors="replace")
        self._names: list[str] = []

    def of(self, name: str) -> LineSink | Path:
        """Where the lines of a process go.

        Raises:
            StartError: its file in LOG_DIR can't be written.
        """
        if self._log_dir:
            path = self._log_dir / f"{name}.log"
            try:
                path.open("ab").close()
            except OSError as error:
                raise StartError(f"LOG_DIR {self._log_dir}: {path}: {error.strerror}") from error
            return path
        return lambda line: self._print(name, line)

    def say(self, line: str) -> None:
        """A line of ours."""
        self._print(OURS, line)

    def _print(self, name: str, line: str) -> None:
        if name not in self._names:
            self._names.append(name)
        label = f"{name:<{self._width}} |"
        if self._coloured:
            label = f"\033[{COLOURS[self._names.index(name) % len(COLOURS)]}m{label}\033[0m"
        try:
            print(f"{label} {line}", flush=True)
        except (OSError, ValueError):
            # `make run | head`, a terminal that was closed, a log on a full disk: go on without words.
            sys.stdout = None
