"""Modules of ROCm's programs that a script holds while the program gets other contents.

In C++ they point into the contents that the program had: those have to live as long as the module objects do.
"""

from __future__ import annotations

import weakref
from typing import Any

#: References to module objects by the identity of their program, which has no hash.
_modules: dict[int, list[weakref.ref[Any]]] = {}


def note(program: Any, module: Any) -> Any:
    """Remember that a module of a program was handed out; the module."""
    if id(program) not in _modules:
        _modules[id(program)] = []
        weakref.finalize(program, _modules.pop, id(program), None)
    known = _modules[id(program)]
    if not any(each() is module for each in known):
        known[:] = [each for each in known if each() is not None] + [weakref.ref(module)]
    return module


def keep(program: Any, contents: object, always: bool) -> None:
    """Keep what a program consisted of while a module of it is held; always: while the program itself is."""
    holders = [each() for each in _modules.get(id(program), ())]
    for holder in [*holders, *([program] if always else [])]:
        if holder is not None:
            weakref.finalize(holder, _release, contents).atexit = False


def _release(contents: object) -> None:
    """Let go what a finalizer has held."""
