"""The names of ROCm's own module, with IREE in the compile of a subclass of its program."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from iree_migraphx.binding import official, official_program
from iree_migraphx.dropin import handed_out, own
from iree_migraphx.dropin.names import OFFICIAL
from iree_migraphx.options import Options
from iree_migraphx.report import Report

#: Functions that make a program.
_GIVING = ("load", "load_buffer", "parse_onnx", "parse_onnx_buffer", "parse_tf")
#: Names of this package's own beside them.
_OWN = ("CustomOp", "own_program", "own_target", "register_custom_op", "to_official")


def namespace() -> dict[str, Any]:
    """Every name that the installed module has.

    Raises:
        LibraryNotFoundError: ROCm's module can't be imported, or uses another libmigraphx.
        MigraphxError: it is built in a way that programs can't be put into its objects.
    """
    migraphx = official.module()
    official_program.check()
    kind = _program(migraphx.program)
    found = {name: getattr(migraphx, name) for name in OFFICIAL if hasattr(migraphx, name)}
    found |= {name: getattr(migraphx, name) for name in dir(migraphx) if not name.startswith("_")}
    found |= {name: _giving(found[name], kind) for name in _GIVING if name in found}
    found |= {name: getattr(own, name) for name in _OWN}
    found |= {"program": kind, "dynamic_dimension": migraphx.shape.dynamic_dimension}
    found["from_official"] = functools.partial(_copied, kind)
    if hasattr(migraphx, "__version__"):
        found["__version__"] = migraphx.__version__
    return found


def _program(base: Any) -> type[Any]:
    class program(base):  # type: ignore[misc]  # noqa: N801 -- the official name
        """ROCm's program whose compile puts IREE's kernels in.

        Attributes:
            iree_report: what became of each subgraph when it was compiled; None before.
        """

        iree_report: Report | None = None

        def compile(
            self,
            t: Any,
            offload_copy: bool = True,
            fast_math: bool = True,
            exhaustive_tune: bool = False,
            *,
            options: Options | None = None,
        ) -> None:
            """As own.program.compile."""
            from iree_migraphx.dropin.compiling import compile_rocm
            from iree_migraphx.plan import How

            how = How(offload_copy, fast_math, exhaustive_tune)
            original = inspect.unwrap(base.compile)  # a hook may be around it
            plain = functools.partial(original, self, t, offload_copy, fast_math, exhaustive_tune)
            self.iree_report = compile_rocm(self, t, plain, how, options) or self.iree_report

        def get_main_module(self) -> Any:
            """As ROCm's."""
            return handed_out.note(self, super().get_main_module())

        def create_module(self, name: str) -> Any:
            """As ROCm's."""
            return handed_out.note(self, super().create_module(name))

    return program


def _giving(function: Callable[..., Any], kind: type[Any]) -> Callable[..., Any]:
    """The function with a program that compiles in place as its result."""

    @functools.wraps(function)
    def giving(*args: Any, **kwargs: Any) -> Any:
        return _adopt(kind, function(*args, **kwargs))

    return giving


def _copied(kind: type[Any], p: Any) -> Any:
    """A program of ROCm's as another one, which compiles in place."""
    made = kind()
    official_program.assign(made, p)
    return made


def _adopt(kind: type[Any], theirs: Any) -> Any:
    """A program that nobody else holds as one that compiles in place."""
    made = kind()
    official_program.exchange(made, theirs)
    return made
