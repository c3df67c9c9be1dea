"""The names of ROCm's module on libmigraphx_c alone, with IREE in program.compile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from iree_migraphx import binding
from iree_migraphx.binding import CustomOp as CustomOp
from iree_migraphx.binding import allocate_gpu as allocate_gpu
from iree_migraphx.binding import argument as argument
from iree_migraphx.binding import argument_from_pointer as argument_from_pointer
from iree_migraphx.binding import capi, library
from iree_migraphx.binding import create_argument as create_argument
from iree_migraphx.binding import dynamic_dimension as dynamic_dimension
from iree_migraphx.binding import fill_argument as fill_argument
from iree_migraphx.binding import from_gpu as from_gpu
from iree_migraphx.binding import generate_argument as generate_argument
from iree_migraphx.binding import get_target as get_target
from iree_migraphx.binding import gpu_sync as gpu_sync
from iree_migraphx.binding import instruction_ref as instruction_ref
from iree_migraphx.binding import module as module
from iree_migraphx.binding import op as op
from iree_migraphx.binding import own_program as own_program
from iree_migraphx.binding import own_target as own_target
from iree_migraphx.binding import quantize_bf16 as quantize_bf16
from iree_migraphx.binding import quantize_fp8 as quantize_fp8
from iree_migraphx.binding import quantize_fp16 as quantize_fp16
from iree_migraphx.binding import quantize_int8 as quantize_int8
from iree_migraphx.binding import register_custom_op as register_custom_op
from iree_migraphx.binding import save as save
from iree_migraphx.binding import save_buffer as save_buffer
from iree_migraphx.binding import shape as shape
from iree_migraphx.binding import target as target
from iree_migraphx.binding import to_gpu as to_gpu
from iree_migraphx.binding import to_official as to_official
from iree_migraphx.dropin.names import C_FUNCTIONS
from iree_migraphx.options import Options

_P = ParamSpec("_P")


class program(binding.program):  # noqa: N801 -- the official name
    """A program: empty when made, else from parse_onnx, load or load_buffer. Its compile puts IREE's kernels in.

    A compiled program may be run from several threads at once, as far as MIGraphX's target allows it.

    Attributes:
        iree_report: what became of each subgraph when it was compiled; None before.
    """

    __slots__ = ()

    def compile(
        self,
        t: target,
        offload_copy: bool = True,
        fast_math: bool = True,
        exhaustive_tune: bool = False,
        *,
        options: Options | None = None,
    ) -> None:
        """Compile the program in place, with IREE's kernels in it; what IREE rejects is left to MIGraphX.

        Args:
            t: what for.
            offload_copy: copy inputs to the device and results back; without it they are memory of the device.
            fast_math: allow less exact but faster forms of some operators.
            exhaustive_tune: try every kernel that MIGraphX knows, which takes long.
            options: this package's settings; those of a hook, or else of the environment, by default.

        Raises:
            OptionError: a setting that can't be used, before any work.
            CompilerNotFoundError: IREE_BIN names something that is not a compiler.
            MigraphxError: MIGraphX can't compile it, and the program is then of no more use; or it is compiled already.
            InputError: the program has no instructions.
        """
        from iree_migraphx.dropin.compiling import compile_own
        from iree_migraphx.plan import How

        how = How(offload_copy, fast_math, exhaustive_tune)
        plain = functools.partial(binding.program.compile, self, t, offload_copy, fast_math, exhaustive_tune)
        self.iree_report = compile_own(self, t, plain, how, options) or self.iree_report


def _giving(function: Callable[_P, binding.program]) -> Callable[_P, program]:
    """The function with a program that compiles in place as its result."""

    @functools.wraps(function)
    def giving(*args: _P.args, **kwargs: _P.kwargs) -> program:
        made = function(*args, **kwargs)
        return program.wrap(made.handle, made.is_compiled())

    return giving


from_official = _giving(binding.from_official)
load = _giving(binding.load)
load_buffer = _giving(binding.load_buffer)
parse_onnx = _giving(binding.parse_onnx)
parse_onnx_buffer = _giving(binding.parse_onnx_buffer)
parse_tf = _giving(binding.parse_tf)


def autocast_fp8(prog: binding.program) -> None:
    """Let 8-bit floats among the program's parameters and results be float32 outside, with conversions inside.

    Raises:
        MigraphxError: the program is compiled.
    """
    from iree_migraphx.dropin import autocast

    autocast.autocast_fp8(prog)


def available() -> list[str]:
    """The names that the installed MIGraphX has what it takes for."""
    missing = {name for name, function in C_FUNCTIONS.items() if not capi.has(function)}
    if "gpu" not in library.known_targets():
        missing.update(("allocate_gpu", "from_gpu", "gpu_sync", "to_gpu"))
    return [name for name in binding.__all__ if name in globals() and name not in missing]
