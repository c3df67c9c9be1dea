"""Exceptions of our own callbacks, on their way from Python through C++ back to Python.

A callback may not raise into C++: it notes the exception here, writes a line for MIGraphX and returns a status; the
call of MIGraphX that it interrupted raises the noted exception as the cause of its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator

#: Bytes that MIGraphX reads of a callback's message, terminator included (api.cpp).
MESSAGE_BYTES = 256


class _Calls(threading.local):
    """What callbacks raised in each call of MIGraphX that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[deque[BaseException]] = []


_calls = _Calls()
_elsewhere: deque[BaseException] = deque(maxlen=4)  # on threads that MIGraphX started


@contextlib.contextmanager
def errors() -> Iterator[deque[BaseException]]:
    """Collect what callbacks raise on this thread during one call of MIGraphX."""
    mine: deque[BaseException] = deque(maxlen=16)  # passes may probe compute_shape thousands of times
    _calls.stack.append(mine)
    try:
        yield mine
    finally:
        _calls.stack.pop()


def find(raised: Iterable[BaseException], text: str) -> BaseException | None:
    """The exception that MIGraphX's text of an error tells of: the last one raised by the call, or one elsewhere.

    Passes probe compute_shape and live with a refusal, so that an exception was raised does not make it the cause.
    """
    return next((error for error in [*reversed([*raised]), *_elsewhere] if describe(error) in text), None)


def note(error: BaseException) -> None:
    """Keep an exception that must not pass through C++."""
    (_calls.stack[-1] if _calls.stack else _elsewhere).append(error)


def describe(error: BaseException) -> str:
    """One line about an exception, short enough for MIGraphX's buffer."""
    text = f"{type(error).__name__}: {error}".replace("\0", "").strip()
    return text.encode()[: MESSAGE_BYTES - 1].decode(errors="ignore")
