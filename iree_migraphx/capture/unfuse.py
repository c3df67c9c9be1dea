"""From a program whose instructions MIGraphX has fused to one of ordinary operators.

A captured program can't be compiled on: what keeps passes out of the fused submodules is not saved. So each fusion is
replaced by its submodule's instructions; MIGraphX fuses what is left of them again by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from iree_migraphx.errors import CaptureError
from iree_migraphx.ir.edit import unique_ids
from iree_migraphx.ir.model import Instruction, Module, Program, Shape

#: Instructions whose submodule is their own computation, with the operands bound to its parameters in the order of the
#: parameters' names (module::compute_shapes, src/module.cpp).
FUSIONS = frozenset({"fused_reduce", "gpu::mlir_op", "group", "pointwise", "split_fused_reduce"})

#: Instructions that decide whether, or how often, their submodules run; these stay, and read values by name.
CONTROL = frozenset({"if", "loop", "select_module"})

#: Operators of the gpu target that stand before its lowering (src/targets/gpu/prefuse_ops.cpp).
_BEFORE_LOWERING = frozenset(
    {
        "gpu::concat_past_present",
        "gpu::gqa_rotary_embedding",
        "gpu::pre_gemm_softmax_gemm",
        "gpu::preadd_layernorm",
        "gpu::prelayernorm",
    }
)


@dataclass(frozen=True, slots=True)
class Unfused:
    """A program of ordinary operators, and where they came from.

    Attributes:
        program: not compiled for anything. Only the types and lengths of the shapes inside what was fused are right:
            let MIGraphX compute the strides.
        parts: id of each fusion of the captured program -> ids of the instructions it became, in order. The parts of a
            fusion inside a fusion are among those of the outer one as well.
        results: id of each fusion -> ids of the values that were its results.
    """

    program: Program
    parts: Mapping[str, tuple[str, ...]]
    results: Mapping[str, tuple[str, ...]]


def unfuse(program: Program) -> Unfused:
    """Replace each fusion, in main and in every submodule that runs by itself.

    Raises:
        CaptureError: the program holds operators of a device, or fusions in a form that is not known.
    """
    work = _Unfusing(program)
    work.module("main")
    done = replace(program, modules=work.modules, targets=(), contexts=())
    return Unfused(done, {name: tuple(ids) for name, ids in work.parts.items()}, work.results)


class _Unfusing:
    """The state of one `unfuse`.

    Attributes:
        modules: those that are finished.
        parts: as in Unfused.
        results: as in Unfused.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._ids = unique_ids(program, "unfused")
        self._values: dict[str, str] = {}
        self._instructions: dict[str, Instruction] = {}
        self.modules: dict[str, Module] = {}
        self.parts: dict[str, list[str]] = {}
        self.results: dict[str, tuple[str, ...]] = {}

    def module(self, name: str) -> None:
        """Unfuse one module, and those of its `if` and `loop`."""
        if name not in self._program.modules:
            raise CaptureError(f"the captured program lacks its module {name!r}")
        module = self._program.modules[name]
        instructions = [new for old in module.instructions for new in self._instruction(old)]
        self.modules[name] = replace(module, instructions=tuple(instructions))

    def _instruction(self, old: Instruction) -> Iterator[Instruction]:
        if old.name in FUSIONS:
            self.parts[old.id] = []
            for new in self._expand(old, [self._value(value) for value in old.inputs]):
                self.parts[old.id].append(new.id)
                yield new
            return
        if old.name == "get_tuple_elem" and old.inputs[0] in self.results:
            self._values[old.id] = self.results[old.inputs[0]][int(old.operator["index"])]
            return
        _require_ordinary(old)
        for name in old.modules:
            self.module(name)
        yield self._known(replace(old, inputs=tuple(self._value(value) for value in old.inputs)))

    def _expand(self, fusion: Instruction, operands: list[str]) -> Iterator[Instruction]:
        """The instructions of a fusion's submodule over these operands."""
        if len(fusion.modules) != 1 or fusion.modules[0] not in self._program.modules:
            raise CaptureError(f"{fusion.id!r} ({fusion.name}) has the submodules {list(fusion.modules)}, not one")
        body = self._program.modules[fusion.modules[0]].instructions
        parameters = sorted((i for i in body if i.name == "@param"), key=lambda i: str(i.operator["parameter"]))
        if len(parameters) != len(operands):
            raise CaptureError(
                f"{fusion.id!r} ({fusion.name}) has {len(operands)} operands for {len(parameters)} parameters"
            )
        # A pointwise submodule computes one element.
        lens = self._instructions[operands[0]].shape.lens if fusion.name == "pointwise" else None
        self._values.update(zip((i.id for i in parameters), operands, strict=True))
        returned: tuple[str, ...] = (body[-1].id,)
        for inner in body:
            if inner.name == "@param":
                continue
            if inner.name == "@return":
                returned = inner.inputs
            elif inner.name in FUSIONS:
                yield from self._expand(inner, [self._value(value) for value in inner.inputs])
            elif inner.name == "get_tuple_elem" and inner.inputs[0] in self.results:
                self._values[inner.id] = self.results[inner.inputs[0]][int(inner.operator["index"])]
            else:
                yield from self._inner(inner, lens)
        self.results[fusion.id] = tuple(self._value(value) for value in returned)
        if len(self.results[fusion.id]) == 1:
            self._values[fusion.id] = self.results[fusion.id][0]

    def _inner(self, inner: Instruction, lens: tuple[int, ...] | None) -> Iterator[Instruction]:
        if inner.modules:
            raise CaptureError(f"{inner.id!r} ({inner.name}) inside a fusion has submodules")
        _require_ordinary(inner)
        shape = inner.shape if lens is None else Shape.standard_of(inner.shape.type, lens)
        inputs = tuple(self._value(value) for value in inner.inputs)
        if inner.name == "@literal":
            literal = self._known(replace(inner, id=next(self._ids)))
            yield literal
            self._values[inner.id] = literal.id
            if lens is None:
                return
            operator = {"out_lens": list(lens), "out_dyn_dims": []}
            new = Instruction(next(self._ids), "multibroadcast", shape, operator, (literal.id,))
        else:
            new = replace(inner, id=next(self._ids), shape=shape, inputs=inputs)
        self._values[inner.id] = new.id
        yield self._known(new)

    def _known(self, instruction: Instruction) -> Instruction:
        self._instructions[instruction.id] = instruction
        return instruction

    def _value(self, value: str) -> str:
        """The new id of a value of the captured program."""
        value = self._values.get(value, value)
        if value not in self._instructions:
            raise CaptureError(f"the captured program reads {value!r} as a whole, or before it is computed")
        return value


def _require_ordinary(instruction: Instruction) -> None:
    """See that MIGraphX can compile the instruction once more.

    Raises:
        CaptureError: it is lowered to the device already, or it has submodules in a way that is not known.
    """
    lowered = instruction.name.startswith(("gpu::", "hip::")) and instruction.name not in _BEFORE_LOWERING
    if lowered or (instruction.modules and instruction.name not in CONTROL):
        raise CaptureError(
            f"the captured program holds {instruction.name}, which can't be compiled again; this MIGraphX may have "
            "other passes than release 7.1"
        )
