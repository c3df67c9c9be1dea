"""`python -m iree_migraphx script.py`: run a script that was written for plain MIGraphX, with the hook in place."""

from __future__ import annotations

import builtins
import io
import json
import os
import runpy
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType

from iree_migraphx.hook import Hook, install

_USAGE = """\
usage: python -m iree_migraphx [--report FILE] script.py [ARG...]
       python -m iree_migraphx [--report FILE] -m MODULE [ARG...]

Runs a script (or a module, or a folder or zip file with a __main__.py) as python itself would, but what it compiles
with migraphx.program.compile gets IREE's kernels. Settings come from the environment: IREE_DISABLE, IREE_CONFIG, …

  --report FILE  write a JSON list to FILE at the end, with the report of each program that was compiled
"""
#: Files of the code whose frames are above a script's.
_ABOVE = {__file__, runpy.run_path.__code__.co_filename}


def main(arguments: list[str]) -> None:
    """Run what the command line names; ends the way it ends."""
    report, run = _read(arguments)
    sys.excepthook = _show
    with install() as hook:
        try:
            run()
        finally:
            if report is not None:
                _write(report, hook)


def _read(arguments: list[str]) -> tuple[str | None, Callable[[], None]]:
    """The file for the report, and what to run, with sys.argv and sys.path as python leaves them for it."""
    rest = list(arguments)
    report = None
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if option in ("-h", "--help"):
            print(_USAGE, end="")
            sys.exit(0)
        if option == "--report" and (equals or rest):
            report = value if equals else rest.pop(0)
        elif option == "-m" and rest:
            sys.argv = rest
            return report, partial(_run_module, rest[0])
        else:
            _complain(f"{option} needs a value" if option in ("-m", "--report") else f"unknown option {option}")
    if not rest:
        _complain("no script named")
    sys.argv = rest
    return report, partial(_run_path, rest[0])


def _run_module(name: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run_path(path: str) -> None:
    if not os.path.exists(path):
        _complain(f"can't open file {os.path.abspath(path)!r}: there is no such file")
    if os.path.isdir(path) or zipfile.is_zipfile(path):
        runpy.run_path(path, run_name="__main__")
        return
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    # Not runpy's, which takes the module away again before the script's threads and exit functions are through.
    module = ModuleType("__main__")
    file = os.path.abspath(path)
    vars(module).update(__file__=file, __builtins__=builtins, __cached__=None)
    module.__loader__ = SourceFileLoader("__main__", file)
    sys.modules["__main__"] = module
    with io.open_code(file) as source:
        code = compile(source.read(), file, "exec")
    exec(code, vars(module))


def _write(path: str, hook: Hook) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump([report.to_json() for report in hook.reports], file, indent=1)
        file.write("\n")


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Show an exception that nobody caught as python does, which has no frames above the script's."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _ABOVE:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)


def _complain(problem: str) -> None:
    print(f"iree_migraphx: {problem}\n{_USAGE}", end="", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
