"""Programs with narrower types: MIGraphX's own quantization, in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iree_migraphx.binding import capi, inputs
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.programs import program
from iree_migraphx.binding.targets import target
from iree_migraphx.errors import MigraphxError

_Calibration = Sequence[Mapping[str, Any]]


def quantize_fp16(prog: program, ins_names: Iterable[str] = ("all",)) -> None:
    """Let the operators of these names compute in half precision.

    Raises:
        MigraphxError: MIGraphX can't, e.g. since the program is compiled.
    """
    _to_type(prog, "fp16", ins_names)


def quantize_bf16(prog: program, ins_names: Iterable[str] = ("all",)) -> None:
    """Let the operators of these names compute in bfloat16; raises as quantize_fp16."""
    _to_type(prog, "bf16", ins_names)


def quantize_int8(
    prog: program, t: target, calibration: _Calibration = (), ins_names: Iterable[str] = ("convolution", "dot")
) -> None:
    """Let convolutions and dots compute in 8-bit integers.

    Args:
        prog: the program.
        t: the target that the calibration runs on.
        calibration: inputs, as for program.run, whose ranges of values set the scales.
        ins_names: which operators; MIGraphX takes nothing but these two, together.

    Raises:
        MigraphxError: MIGraphX can't, e.g. since the program is compiled.
        InputError: a calibration input with a wrong name, shape or dtype.
    """
    options = capi.new("quantize_int8_options", "quantize_int8_options_create")
    for name in ins_names:
        capi.call("quantize_int8_options_add_op_name", options, name.encode())
    _calibrated(prog, t, "int8", options, calibration)


def quantize_fp8(prog: program, t: target, calibration: _Calibration = ()) -> None:
    """Let convolutions and dots compute in 8-bit floats; arguments and errors as of quantize_int8."""
    _calibrated(prog, t, "fp8", capi.new("quantize_fp8_options", "quantize_fp8_options_create"), calibration)


def _to_type(prog: program, kind: str, ins_names: Iterable[str]) -> None:
    names = capi.new("quantize_op_names", "quantize_op_names_create")
    for name in ins_names:
        capi.call("quantize_op_names_add", names, name.encode())
    _quantize(prog, kind, f"quantize_{kind}_with_op_names", names)


def _calibrated(prog: program, t: target, kind: str, options: Handle, calibration: _Calibration) -> None:
    bound = [inputs.bind(prog.get_parameter_shapes(), each) for each in calibration]
    for each in bound:  # which must live until MIGraphX has run them
        capi.call(f"quantize_{kind}_options_add_calibration_data", options, each.handle)
    _quantize(prog, kind, f"quantize_{kind}", t.handle, options)


def _quantize(prog: program, kind: str, function: str, *arguments: Handle) -> None:
    if prog.is_compiled():
        raise MigraphxError(f"can't quantize to {kind}: the program is compiled already; quantize it before")
    prog.rewritten()
    capi.guarded(f"quantize to {kind}", function, prog.handle, *arguments)
