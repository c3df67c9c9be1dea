"""What MIGraphX prints: its C interface reports an error's text on stderr only, and prints programs on stdout only.

A captured call has the file descriptor to itself, under one lock; what a successful call printed is passed on. What an
assertion prints before it ends the process is lost with it: IREE_DEBUG=2 leaves stderr alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator

from iree_migraphx import options
from iree_migraphx.logs import FROM_MIGRAPHX

_log = logging.getLogger(FROM_MIGRAPHX)
_LOCK = threading.RLock()
# api.cpp's try_: "<C function>: Error: <what>"; an exception of MIGraphX's starts with "<file>:<line>: <function>: ".
_ERROR = re.compile(r"^migraphx_\w+: Error: ", re.MULTILINE)
_SOURCE = re.compile(r"^\S+\.[ch](?:pp|xx)?:\d+: [^:\n]*: ")


class Captured:
    """The text that was printed while a capture lasted."""

    def __init__(self) -> None:
        self.text = ""

    def split(self) -> tuple[str, str]:
        """What is not the error's text (warnings, other threads' lines), and the error's text without its source."""
        found = list(_ERROR.finditer(self.text))
        if not found:
            return self.text, ""
        last = found[-1]
        return self.text[: last.start()], _SOURCE.sub("", self.text[last.end() :]).strip()


def capture_errors() -> contextlib.AbstractContextManager[Captured]:
    """Collect what is printed to stderr meanwhile; nothing at IREE_DEBUG=2, which lets it through."""
    return contextlib.nullcontext(Captured()) if options.debug_level() > 1 else capture(2)


@contextlib.contextmanager
def capture(descriptor: int) -> Iterator[Captured]:
    """Collect what is printed to file descriptor 1 or 2 meanwhile. One thread at a time; it may nest."""
    captured = Captured()
    with _LOCK:
        _flush_python(descriptor)
        try:
            saved: int | None = os.dup(descriptor)
        except OSError:  # a service without stderr
            saved = None
        file = os.memfd_create("iree_migraphx")
        if file == descriptor:
            file = os.dup(file)
        try:
            os.dup2(file, descriptor)
            yield captured
        finally:
            _flush_python(descriptor)
            if saved is None:
                os.close(descriptor)
            else:
                os.dup2(saved, descriptor)
                os.close(saved)
            captured.text = os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")
            os.close(file)


def pass_on(text: str) -> None:
    """Pass on what MIGraphX printed during a call that succeeded: as a warning, which ends on stderr by default."""
    if text.strip():
        _log.warning("%s", text.rstrip("\n"))


def _flush_python(descriptor: int) -> None:
    """Keep Python's own buffered lines on their side of the capture."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        (sys.stdout if descriptor == 1 else sys.stderr).flush()
