"""What a person sees while kernels compile: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from iree_migraphx.kernels.model import Outcome, Request
from iree_migraphx.options import Options

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_SECONDS_BETWEEN_LINES = 15.0


class Progress(Protocol):
    """Told about a batch of kernels, from one thread; `end` comes after `begin` whatever happens."""

    def begin(self, total: int, target: str, kept: bool) -> None:
        """So many kernels are about to be compiled (or tried), and will be kept on disk or not."""

    def done(self, request: Request, outcome: Outcome) -> None:
        """One more is there."""

    def end(self) -> None:
        """All are done, or the rest is not going to be."""


class NoProgress:
    """Says nothing."""

    def begin(self, total: int, target: str, kept: bool) -> None:
        """Nothing."""

    def done(self, request: Request, outcome: Outcome) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class LineProgress:
    """A line at the beginning and one every quarter of a minute: for logs.

    Args:
        stream: where the lines go.
        doing: what happens to the kernels.
        seconds: between two lines.
    """

    def __init__(self, stream: TextIO, doing: str = "compiling", seconds: float = _SECONDS_BETWEEN_LINES) -> None:
        self._stream = stream
        self._doing = doing
        self._seconds = seconds
        self._total = self._done = 0
        self._started = self._spoken = 0.0

    def begin(self, total: int, target: str, kept: bool) -> None:
        """Say how many there are, and that it is for once."""
        self._total = total
        self._started = self._spoken = time.monotonic()
        self._say(_headline(self._doing, total, target, kept))

    def done(self, request: Request, outcome: Outcome) -> None:
        """Count it, and say so if the last line is long ago."""
        self._done += 1
        now = time.monotonic()
        if now - self._spoken >= self._seconds and self._done < self._total:
            self._spoken = now
            self._say(f"{self._done} of {self._total} kernels after {now - self._started:.0f} s")

    def end(self) -> None:
        """Nothing: the report tells the result."""

    def _say(self, text: str) -> None:
        print(f"iree_migraphx: {text}", file=self._stream, flush=True)


class BarProgress:
    """A bar with counts, the time left and the latest name, under a line that says what it is about; it disappears."""

    def __init__(self, stream: TextIO, doing: str = "compiling") -> None:
        self._stream = stream
        self._doing = doing
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def begin(self, total: int, target: str, kept: bool) -> None:
        """Show it."""
        # Nobody but a person at a terminal needs rich.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[latest]}", style="dim"),
            console=Console(file=self._stream),
            transient=True,
        )
        self._bar.console.print(f"iree_migraphx: {_headline(self._doing, total, target, kept)}", highlight=False)
        self._task = self._bar.add_task(self._doing, total=total, latest="")
        self._bar.start()

    def done(self, request: Request, outcome: Outcome) -> None:
        """Move on, and name what came last."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, latest=request.symbol)

    def end(self) -> None:
        """Take it away and give the cursor back."""
        if self._bar is not None:
            self._bar.stop()


def default_progress(options: Options, doing: str = "compiling") -> Progress:
    """What standard error is good for: a bar on a terminal, lines elsewhere, nothing where the options say so.

    Without rich, which is an extra, it is lines on a terminal too.
    """
    if not options.shows_progress:
        return NoProgress()
    bar = sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
    return BarProgress(sys.stderr, doing) if bar else LineProgress(sys.stderr, doing)


def _headline(doing: str, total: int, target: str, kept: bool) -> str:
    kernels = "1 kernel" if total == 1 else f"{total} kernels"
    return f"{doing} {kernels} for {target}" + ("; once: the cache keeps what is compiled" if kept else "")
