"""What MIGraphX gives to its own kernel compiler, rocMLIR: the rules of its fuse_mlir pass, as data.

They are needed where MIGraphX was built without MLIR, and where its fused program could not be had. A build with MLIR
answers by itself. The source is src/targets/gpu/fuse_mlir.cpp of release rocm-7.1.1.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from iree_migraphx.capture.unfuse import CONTROL
from iree_migraphx.ir.model import Instruction, Module, Program
from iree_migraphx.options import MlirSettings


class Mode(enum.IntEnum):
    """How much of a kind of anchor goes to rocMLIR: the same names and order as there."""

    ALL = 0
    FAST = 1
    NONE = 3


_FP8 = frozenset({"fp8e4m3fnuz_type", "fp8e5m2fnuz_type", "fp8e4m3fn_type", "fp8e5m2_type"})
_WIDE_FLOATS = frozenset({"float_type", "half_type", "bf16_type"})
_FLOATS = _WIDE_FLOATS | _FP8
_FUSED_TYPES = _FLOATS | {"int8_type", "uint8_type", "int32_type", "uint32_type", "bool_type"}
_STANDALONE_TYPES = _FLOATS | {"int8_type"}

#: Operators of a pointwise submodule that may have results of any fused type but bool.
_ANY_BUT_BOOL = frozenset(
    {"abs", "add", "clip", "dequantizelinear", "div", "mul", "neg", "pow", "quantizelinear", "relu", "sub", "where"}
)
#: Those that must have floating-point results.
_FLOAT_ONLY = frozenset(["ceil", "erf", "exp", "floor", "log", "recip", "rsqrt", "sigmoid", "softmax", "sqrt", "tanh"])

#: What may stand between an anchor and the pointwise behind it.
_BETWEEN = frozenset(["contiguous", "flatten", "reshape", "reshape_lazy", "squeeze", "transpose", "unsqueeze"])

_CONVOLUTIONS = frozenset({"convolution", "quant_convolution"})
_DOTS = frozenset({"dot", "quant_dot"})

#: An inner length from which on a dot is left to the tuned libraries, and one below which none is; between the two a
#: dot with fewer elements in its result than _SMALL_DOT is taken.
_LONGEST_DOT, _SHORT_DOT, _SMALL_DOT = 1536, 1024, 384 * 384


@dataclass(frozen=True, slots=True)
class Pair:
    """Two anchors that rocMLIR would get as one, by id: a dot or convolution, a `pointwise` over it, and a dot."""

    first: str
    pointwise: str
    second: str

    @property
    def members(self) -> tuple[str, str, str]:
        """All of them, in execution order."""
        return self.first, self.pointwise, self.second


@dataclass(frozen=True, slots=True)
class Choice:
    """The anchors that rocMLIR would get.

    Attributes:
        behind: id of each anchor -> ids of what is fused behind it: reshapers and one `pointwise`, or nothing.
        pairs: those that are one with another; they are not in `behind`.
        groups: id of each attention that is a `group` already -> id of the `pointwise` fused behind it, or None.
        several: as `behind`, for anchors that are not in it: those of which others read a value besides the pointwise,
            or whose pointwise has several results. All that is read is a result.
    """

    behind: Mapping[str, tuple[str, ...]]
    pairs: tuple[Pair, ...] = ()
    groups: Mapping[str, str | None] = field(default_factory=dict)
    several: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def mode(option: str, gfx: str, settings: MlirSettings) -> Mode:
    """How much of "convolution", "fused_convolution", "dot", "fused_dot" or "convolution_backwards" goes to rocMLIR."""
    if _named(option, settings.rejected):
        return Mode.NONE
    if _named(option, settings.requested) or gfx.startswith(("gfx11", "gfx12")):
        return Mode.ALL
    return Mode.NONE if option == "convolution_backwards" else Mode.FAST


def fuses_attention(gfx: str, settings: MlirSettings) -> bool:
    """Whether two dots with a softmax between them go to rocMLIR as one (mlir_attention_enabled)."""
    if settings.disabled or "attention" in settings.rejected:
        return False
    return gfx.startswith("gfx94") or "attention" in settings.requested


def choose(program: Program, gfx: str, settings: MlirSettings) -> Choice:
    """Apply the rules to MIGraphX's fused program.

    Args:
        program: with `pointwise` instructions, as captured.
        gfx: the device's processor, "gfx942".
        settings: what the user says about MLIR.
    """
    if settings.disabled:
        return Choice({})
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    behind: dict[str, tuple[str, ...]] = {}
    pairs: list[Pair] = []
    groups: dict[str, str | None] = {}
    several: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for module in _interpreted(program):
        groups.update(_groups(program, module, instructions))
        taken.update(value for value in groups.values() if value is not None)
        if settings.pairs:
            own = _pairs(program, module, instructions, gfx, settings, taken)
            pairs += own
            taken.update(member for pair in own for member in pair.members)
        one, more = _fused(program, module, instructions, gfx, settings, taken, pairs)
        behind.update(one)
        several.update(more)
        for instruction in module.instructions:
            types = {instructions[value].shape.type for value in instruction.inputs}
            chosen = instruction.id in behind or instruction.id in several or instruction.id in taken
            if chosen or not types <= _STANDALONE_TYPES:
                continue
            if accepts(instruction, instructions, mode(kind_of(instruction), gfx, settings)):
                behind[instruction.id] = ()
    return Choice(behind, tuple(pairs), groups, several)


def accepts(anchor: Instruction, instructions: Mapping[str, Instruction], how: Mode) -> bool:
    """Whether rocMLIR gets an anchor in a mode; False for what is no anchor."""
    if how is Mode.NONE:
        return False
    shapes = [instructions[value].shape for value in anchor.inputs]
    if anchor.name in _DOTS:
        if anchor.shape.type in _FP8:
            return False
        if len(shapes) == 4 or how is Mode.ALL:
            return True
        *batch, m, k = shapes[0].lens
        n = shapes[-1].lens[-1]
        return k < _SHORT_DOT or (k < _LONGEST_DOT and math.prod([*batch, m, n]) < _SMALL_DOT)
    group = int(anchor.operator.get("group", 1))
    if anchor.name in _CONVOLUTIONS:
        weights = shapes[1].lens
        if len(anchor.shape.lens) != 4 and group > 1:
            return False
        if shapes[0].type in _FP8 | {"int8_type"} or how is Mode.ALL or group > 1 or len(weights) != 4:
            return True
        return weights[2] != weights[3] or weights[3] % 3 != 0
    if anchor.name == "convolution_backwards":
        return shapes[0].type in _WIDE_FLOATS and len(shapes[1].lens) == 4 and group == 1
    return False


def fuses(instruction: Instruction, instructions: Mapping[str, Instruction]) -> bool:
    """Whether rocMLIR takes an instruction of a pointwise submodule; one that it does not blocks all of them."""
    type_, name = instruction.shape.type, instruction.name
    if name == "@return":
        return True
    if type_ not in _FUSED_TYPES:
        return False
    if name == "convert":
        types = {instructions[value].shape.type for value in instruction.inputs}
        return type_ in _WIDE_FLOATS and types <= _WIDE_FLOATS
    return (
        name in ("@param", "@literal")
        or (name in _ANY_BUT_BOOL and type_ != "bool_type")
        or (name in _FLOAT_ONLY and type_ in _FLOATS)
    )


def _groups(
    program: Program, module: Module, instructions: Mapping[str, Instruction]
) -> Iterator[tuple[str, str | None]]:
    """Attention that is one instruction already (find_mlir_attention_op); MIGraphX can't compute it without MLIR."""
    users = module.users()
    for group in module.instructions:
        if group.name == "group" and group.operator.get("tag") == "attention" and not group.shape.sub_shapes:
            readers = users[group.id]
            fused = len(readers) == 1 and _fuses_whole(readers[0], program, instructions)
            yield group.id, readers[0].id if fused else None


def _fuses_whole(last: Instruction, program: Program, instructions: Mapping[str, Instruction]) -> bool:
    """Whether an instruction is a `pointwise` of one result that rocMLIR takes."""
    if last.name != "pointwise" or last.shape.sub_shapes:
        return False
    return all(fuses(inner, instructions) for inner in program.modules[last.modules[0]].instructions)


def _pairs(
    program: Program,
    module: Module,
    instructions: Mapping[str, Instruction],
    gfx: str,
    settings: MlirSettings,
    before: Collection[str],
) -> list[Pair]:
    """Dots behind a pointwise that reads another anchor itself, in the order in which the pass comes upon them.

    Of each one's operands the first that will do counts, and there is none where another operand depends on it
    (find_mlir_fused_geg_ops). Nor is there a pair where the second dot reads the first one's value on another way
    as well, which MIGraphX does not see to: such a fusion would read its own result.
    """
    found: list[Pair] = []
    taken = {*before}
    merged: dict[str, Sequence[str]] = {}
    index = {instruction.id: position for position, instruction in enumerate(module.instructions)}

    def takes(value: str, kinds: frozenset[str]) -> bool:
        each = instructions[value]
        how = mode(f"fused_{kind_of(each)}", gfx, settings)
        return value in index and value not in taken and each.name in kinds and accepts(each, instructions, how)

    def first_of(value: str) -> str | None:
        between = instructions[value]
        if between.name != "pointwise" or value not in index or value in taken:
            return None
        if not all(fuses(inner, instructions) for inner in program.modules[between.modules[0]].instructions):
            return None
        return next((each for each in between.inputs if takes(each, _CONVOLUTIONS | _DOTS)), None)

    for second in module.instructions:
        if not takes(second.id, _DOTS):
            continue
        firsts = ((value, first_of(value)) for value in second.inputs)
        between, first = next(((value, each) for value, each in firsts if each is not None), ("", None))
        if first is None:
            continue
        others = [value for value in instructions[between].inputs if value != first]
        others += [value for value in second.inputs if value != between]
        if not any(_reaches(first, value, instructions, index, merged) for value in others):
            found.append(Pair(first, between, second.id))
            taken.update(found[-1].members)
            merged.update(dict.fromkeys(found[-1].members, found[-1].members))
    return found


def _fused(
    program: Program,
    module: Module,
    instructions: Mapping[str, Instruction],
    gfx: str,
    settings: MlirSettings,
    taken: Collection[str],
    pairs: Collection[Pair],
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Anchors with the pointwise behind them, in the order in which the pass comes upon the latter.

    What is taken is neither. Those of several results are by themselves: with `pairs` they decide what depends on what.
    """
    behind: dict[str, tuple[str, ...]] = {}
    several: dict[str, tuple[str, ...]] = {}
    merged: dict[str, Sequence[str]] = {member: pair.members for pair in pairs for member in pair.members}
    index = {instruction.id: position for position, instruction in enumerate(module.instructions)}
    users = module.users()
    for last in module.instructions:
        if last.name != "pointwise" or last.id in taken:
            continue
        body = program.modules[last.modules[0]].instructions
        if not all(fuses(inner, instructions) for inner in body):
            continue
        for value in last.inputs:
            anchor, between = _anchor_of(value, instructions)
            possible = anchor.name in _CONVOLUTIONS | _DOTS and anchor.id in index
            possible = possible and not any(anchor.id in chosen for chosen in (behind, several, taken))
            if not possible or not accepts(anchor, instructions, mode(f"fused_{kind_of(anchor)}", gfx, settings)):
                continue
            others = [other for other in last.inputs if other != value]
            if not any(_reaches(anchor.id, other, instructions, index, merged) for other in others):
                steps = (*between, last.id)
                if all(len(users[each]) == 1 for each in (anchor.id, *between)) and not last.shape.sub_shapes:
                    behind[anchor.id] = steps
                else:
                    several[anchor.id] = steps
                    merged.update(dict.fromkeys((anchor.id, *steps), (anchor.id, *steps)))
            break
    return behind, several


def _anchor_of(value: str, instructions: Mapping[str, Instruction]) -> tuple[Instruction, tuple[str, ...]]:
    """What is in front of a value once reshapers are left out, and those, first to last."""
    between: list[str] = []
    instruction = instructions[value]
    while instruction.name in _BETWEEN and len(instruction.inputs) == 1:
        between.insert(0, instruction.id)
        instruction = instructions[instruction.inputs[0]]
    return instruction, tuple(between)


def _reaches(
    source: str,
    value: str,
    instructions: Mapping[str, Instruction],
    index: Mapping[str, int],
    merged: Mapping[str, Sequence[str]],
) -> bool:
    """Whether a value is computed from the source, inside one module; what is merged has no value before all are."""
    seen: set[str] = set()
    pending = [value]
    while pending:
        each = pending.pop()
        if each == source:
            return True
        if each not in seen and (each in merged or index.get(each, -1) > index[source]):
            seen.add(each)
            pending.extend(read for member in merged.get(each, (each,)) for read in instructions[member].inputs)
    return False


def _interpreted(program: Program) -> Iterator[Module]:
    """Main, and the modules of what runs in it: not those that are a fusion's own computation."""
    pending = ["main"]
    while pending:
        module = program.modules[pending.pop(0)]
        yield module
        pending += [name for i in module.instructions if i.name in CONTROL for name in i.modules]


def kind_of(anchor: Instruction) -> str:
    """The name by which the modes know an anchor."""
    return anchor.name.removeprefix("quant_")


def _named(option: str, names: frozenset[str]) -> bool:
    return option in names or ("fused" in option and "fused" in names)
