"""The gpu's part of the pipeline: which device, MIGraphX's own fused program, and which of its subgraphs are tried."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iree_migraphx.binding.device import current_device, has_launch_dims, has_mlir
from iree_migraphx.capture.process import capture
from iree_migraphx.capture.settle import settle
from iree_migraphx.capture.unfuse import Unfused, unfuse
from iree_migraphx.errors import CaptureError, HelperError, OptionError, Reason, Refusal
from iree_migraphx.ir.loops import with_loops_like
from iree_migraphx.ir.model import Program
from iree_migraphx.ir.write import write_program
from iree_migraphx.options import Options, mlir_settings
from iree_migraphx.partition.migraphx_rules import Choice, accepts, choose, fuses, fuses_attention, kind_of, mode
from iree_migraphx.partition.partition import Fusion, partition, take_whole
from iree_migraphx.partition.rules import Rules
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.report import Report

if TYPE_CHECKING:
    from iree_migraphx.kernels.targets import Target

NO_MLIR = (
    "this MIGraphX was built without MLIR, so what IREE does not compute goes to MIOpen, rocBLAS or hipBLASLt, "
    "not to rocMLIR"
)

_MLIR_OP = "gpu::mlir_op"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Captured:
    """MIGraphX's own fused program and what it is without its fusions; the latter has MIGraphX's shapes."""

    fused: Program
    unfused: Unfused


def device_target(options: Options) -> Target:
    """The GPU that MIGraphX compiles for, as IREE knows it.

    Raises:
        OptionError: `arch` names another processor than the device's.
        Refusal: UNKNOWN_DEVICE, where IREE does not know the device, or nothing says which one it is.
    """
    from iree_migraphx.kernels.targets import name_of_product, parse_target

    wanted = parse_target(options.arch) if options.arch else None
    try:
        device = current_device()
        target = parse_target(name_of_product(device.arch, device.product))
    except OptionError as error:
        if wanted is None:
            raise Refusal(Reason.UNKNOWN_DEVICE, str(error)) from error
        return replace(wanted, any_grid=has_launch_dims())
    if wanted is not None and wanted.gfx != target.gfx:
        raise OptionError(
            f"arch is {options.arch!r}, but the current device is {device.arch}; "
            "iree_migraphx.check compiles for other devices"
        )
    return replace(wanted or target, any_grid=has_launch_dims())


def captured(program: Program, offload_copy: bool, fast_math: bool, timeout: float) -> Captured:
    """What MIGraphX makes of a parsed program before it lowers it for the current device.

    Args:
        program: with its loops in order.
        offload_copy: as MIGraphX's compile.
        fast_math: as MIGraphX's compile.
        timeout: seconds that it may take.

    Raises:
        CaptureError: it could not be had.
        Refusal: UNSUPPORTED_OPERATOR for a loop that MIGraphX has changed beyond recognition.
    """
    fused = capture(write_program(program), offload_copy, fast_math, timeout)
    fused = with_loops_like(fused, program)
    unfused = unfuse(fused)
    return Captured(fused, replace(unfused, program=settle(unfused.program)))


def choose_captured(found: Captured, rules: Rules, eligible: str, gfx: str) -> tuple[Subgraph, ...]:
    """Subgraphs of a captured program: all that the rules allow, or MIGraphX's own choice for its kernel compiler."""
    program = found.unfused.program
    if eligible == "all":
        return partition(program, rules)
    if has_mlir():
        return _as_fused(found, rules)
    settings = mlir_settings()
    choice = choose(found.fused, gfx, settings)
    own = replace(rules, attention=rules.attention if fuses_attention(gfx, settings) else None)
    return partition(program, own, _within(choice, found.unfused), _fusions(choice, found.unfused))


def choose_parsed(program: Program, rules: Rules, eligible: str, gfx: str) -> tuple[Subgraph, ...]:
    """Subgraphs of a program that MIGraphX has not optimised; MIGraphX's own choice is only guessed."""
    if eligible == "all":
        return partition(program, rules)
    settings = mlir_settings()
    if settings.disabled:
        return ()
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    own = replace(
        rules,
        anchor=lambda i: rules.anchor(i) and accepts(i, instructions, mode(f"fused_{kind_of(i)}", gfx, settings)),
        pointwise=lambda i: rules.pointwise(i) and fuses(i, instructions),
        attention=rules.attention if fuses_attention(gfx, settings) else None,
    )
    return partition(program, own)


def _as_fused(found: Captured, rules: Rules) -> tuple[Subgraph, ...]:
    """Exactly MIGraphX's gpu::mlir_ops."""
    parts, results = found.unfused.parts, found.unfused.results
    names = [i.id for i in found.fused.instructions() if i.name == _MLIR_OP and i.id in parts]
    return take_whole(found.unfused.program, rules, ((parts[name], results[name]) for name in names))


def _within(choice: Choice, unfused: Unfused) -> dict[str, frozenset[str]]:
    return {
        anchor: frozenset(part for value in behind for part in unfused.parts.get(value, (value,)))
        for anchor, behind in choice.behind.items()
    }


def _fusions(choice: Choice, unfused: Unfused) -> list[Fusion]:
    """What is one in MIGraphX's eyes.

    The results are in its order: of a pair the second dot's, then those in front of it that others read too.
    """
    parts, results = unfused.parts, unfused.results
    groups: list[Fusion] = [
        ([*parts[group], *(parts[behind] if behind else ())], results[behind or group])
        for group, behind in choice.groups.items()
    ]
    several: list[Fusion] = [
        ([anchor, *between, *parts[last]], [*results[last], *between, anchor])
        for anchor, (*between, last) in choice.several.items()
    ]
    pairs: list[Fusion] = [
        ([pair.first, *parts[pair.pointwise], pair.second], [pair.second, *results[pair.pointwise], pair.first])
        for pair in choice.pairs
    ]
    return groups + pairs + several


def with_note(report: Report) -> Report:
    """The report of a compile for the gpu, with a word on who computes what IREE does not."""
    notes = [report.note] if report.note else []
    if report.reason is None and not report.subgraphs:
        notes.append('nothing in it is what MIGraphX gives to rocMLIR; eligible="all" takes every convolution and dot')
    if report.swapped < report.eligible and not has_mlir():
        notes.append(NO_MLIR)
    return replace(report, note="; ".join(notes))


def capture_failed(error: CaptureError) -> str:
    """The note of a report whose program was not captured."""
    _log.info("not captured: %s", error)
    return f"MIGraphX's own fused program could not be had, the parsed one was taken instead: {error}"


def not_compiled_again(error: HelperError) -> str:
    """The note of a report whose captured program MIGraphX could not compile."""
    _log.info("not compiled as captured: %s", error)
    return f"MIGraphX could not compile its own program again, the parsed one was taken instead: {error}"
