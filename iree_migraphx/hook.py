"""The hook for scripts that know nothing of this package: `migraphx.program.compile` puts IREE's kernels in.

ROCm's class gets another `compile`; where ROCm's module is not installed, `import migraphx` gives this package's names.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import weakref
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import iree_migraphx
from iree_migraphx.binding import library, official
from iree_migraphx.dropin import handed_out
from iree_migraphx.dropin.settings import Settings, stack
from iree_migraphx.errors import LibraryNotFoundError
from iree_migraphx.options import Options
from iree_migraphx.report import Report

if TYPE_CHECKING:
    from typing_extensions import Self

_NAME = "migraphx"


class Hook(Settings):
    """One installed hook; as a context manager it is gone at the end of the block.

    Attributes:
        options: how programs are compiled; None takes the settings of the environment, at each compile.
        reports: what became of each program that was compiled, in order.
    """

    def uninstall(self) -> None:
        """Take the hook out; what was compiled stays as it is."""
        if self in stack:
            stack.remove(self)
        if not stack:
            _undo()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.uninstall()


def install(options: Options | None = None) -> Hook:
    """Let `migraphx.program.compile` put IREE's kernels in, in this process and from now on.

    Works before and after `import migraphx`. Of several hooks the last one's options hold.

    Args:
        options: settings; those of the environment by default, read at each compile.
    """
    hook = Hook(options)
    stack.append(hook)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    loaded = sys.modules.get(_NAME)
    if loaded is not None and official.is_rocm(loaded):
        _patch(loaded, modules_unknown=True)
    elif loaded is not None and not isinstance(loaded.__spec__.loader if loaded.__spec__ else None, _OwnNames):
        del sys.modules[_NAME]  # PyPI's placeholder
    return hook


def uninstall() -> None:
    """Take every hook out; what was compiled stays as it is."""
    stack.clear()
    _undo()


def _undo() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    loaded = sys.modules.get(_NAME)
    if loaded is None:
        return
    if isinstance(loaded.__spec__.loader if loaded.__spec__ else None, _OwnNames):
        del sys.modules[_NAME]
    elif official.is_rocm(loaded):
        _restore(loaded)


#: Reports by the identity of ROCm's programs, which take no attributes and have no hash.
_reports: dict[int, Report] = {}


def _patch(migraphx: ModuleType, modules_unknown: bool) -> None:
    """Put our compile into ROCm's class, once; modules_unknown: the class may have been used before."""
    kind = migraphx.program
    plain = kind.compile
    if hasattr(plain, "__wrapped__"):
        return
    for name in ("get_main_module", "create_module"):
        setattr(kind, name, _noting(getattr(kind, name)))

    @functools.wraps(plain)
    def compile(  # noqa: A001 -- the official name
        self: Any, t: Any, offload_copy: bool = True, fast_math: bool = True, exhaustive_tune: bool = False
    ) -> None:
        from iree_migraphx.dropin.compiling import compile_rocm
        from iree_migraphx.plan import How

        how = How(offload_copy, fast_math, exhaustive_tune)
        plainly = functools.partial(plain, self, t, offload_copy, fast_math, exhaustive_tune)
        report = compile_rocm(self, t, plainly, how, modules_unknown=modules_unknown)
        if report is not None:
            if id(self) not in _reports:
                weakref.finalize(self, _reports.pop, id(self), None)
            _reports[id(self)] = report

    kind.compile = compile
    kind.iree_report = property(lambda self: _reports.get(id(self)), doc="What became of each subgraph, or None.")


def _restore(migraphx: ModuleType) -> None:
    kind = migraphx.program
    if hasattr(kind.compile, "__wrapped__"):
        for name in ("compile", "get_main_module", "create_module"):
            setattr(kind, name, getattr(kind, name).__wrapped__)
        del kind.iree_report


def _noting(method: Any) -> Any:
    """ROCm's method that hands out a module, with a note of it."""

    @functools.wraps(method)
    def noting(self: Any, *arguments: Any, **named: Any) -> Any:
        return handed_out.note(self, method(self, *arguments, **named))

    return noting


class _Finder(importlib.abc.MetaPathFinder):
    """Finds ROCm's module for `import migraphx`, wherever sys.path has it by then, or else this package's names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or not library.is_extension(spec):
            return importlib.util.spec_from_loader(fullname, _OwnNames())
        spec.loader = _Patched(spec.loader)
        return spec


class _Patched(importlib.abc.Loader):
    """Loads ROCm's module as its own loader does, and puts our compile into it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if official.is_rocm(module):
            _patch(module, modules_unknown=False)


class _OwnNames(importlib.abc.Loader):
    """Makes a module with the names of this package, where there is no other."""

    def exec_module(self, module: ModuleType) -> None:
        try:
            library.load()
        except LibraryNotFoundError as error:  # scripts that can do without MIGraphX look for this
            raise ModuleNotFoundError(f"No module named {_NAME!r}: {error}", name=_NAME) from error
        module.__doc__ = iree_migraphx.__doc__
        vars(module)["__getattr__"] = iree_migraphx.__getattr__
        vars(module)["__dir__"] = iree_migraphx.__dir__
