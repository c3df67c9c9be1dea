"""Where the values of a program that MIGraphX compiled for the gpu lie in memory, and moving them.

MIGraphX plans the memory of a module's values (src/memory_coloring.cpp of release rocm-7.1.1): each is a `load` at an
offset of one buffer, the scratch. The offsets are multiples of a few elements only, 8 bytes where all is f16; and it
takes the values in the order of how many others each must be apart from, which often is not the least memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import add

from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.ir.operators import VIEWS
from iree_migraphx.ir.write import shape_fields
from iree_migraphx.kernels.accept import ALIGNMENT
from iree_migraphx.splice.gpu_lifetimes import SCRATCH, lifetimes
from iree_migraphx.splice.gpu_plan import fits, plan

#: Operators whose result is their first operand's memory, as it is (src/targets/gpu/include/migraphx/gpu/hip.hpp).
_PASS_ON = frozenset({"as_shape", "hip::fill", "hip::sync_stream"})


def align_scratch(program: Program) -> Program:
    """Move the loads of every scratch buffer to aligned offsets, where one is not; buffers grow as they must.

    Two loads that lay side by side still do: the distance between any two offsets never shrinks.
    """
    return replace(program, modules={name: _aligned(module) for name, module in program.modules.items()})


def with_own_plan(program: Program) -> Program:
    """Plan the places in every scratch buffer anew, where that takes less memory, or where values lie on each other.

    The latter is so for results of an `if` or a loop: MIGraphX takes their buffers to be free behind it
    (src/include/migraphx/liveness.hpp: an `if` has no output_alias, a loop only that of its last operand).

    Args:
        program: compiled, with its kernels, and aligned.
    """
    modules = {}
    for name, module in program.modules.items():
        instructions, new = module.by_id(), dict[str, Instruction]()
        for root, places in lifetimes(program, module).items():
            buffers = list(places.values())
            offsets = plan(buffers)
            end = max(map(add, offsets, (buffer.nbytes for buffer in buffers)), default=0)
            given = [int(instructions[load].operator["offset"]) for load in places]
            if 0 < end < instructions[root].shape.nbytes or not fits(buffers, given):
                new[root] = _resized(instructions[root], end)
                for load, offset in zip(places, offsets, strict=True):
                    new[load] = _at(instructions[load], offset)
        modules[name] = replace(module, instructions=tuple(new.get(i.id, i) for i in module.instructions))
    return replace(program, modules=modules)


def is_aligned(value: str, instructions: Mapping[str, Instruction]) -> bool:
    """Whether a value's address is known to be a multiple of ALIGNMENT, given all instructions of the program.

    Parameters of main are memory of the user's, which is expected to be.
    """
    pending = [value]
    while pending:
        instruction = instructions[pending.pop()]
        name, inputs = instruction.name, instruction.inputs
        if name == "load":
            if int(instruction.operator["offset"]) % ALIGNMENT:
                return False
            pending.append(inputs[0])
        elif name == "slice":
            if _slice_offset(instruction, instructions[inputs[0]].shape) % ALIGNMENT:
                return False
            pending.append(inputs[0])
        elif name == "get_tuple_elem":
            whole = instructions[inputs[0]]
            if whole.name in ("if", "gpu::loop"):
                # Buffers of their own, which are passed in.
                pending.extend(whole.inputs)
                continue
            if _element_offset(whole.shape, int(instruction.operator["index"])) % ALIGNMENT:
                return False
            pending.append(inputs[0])
        elif name in VIEWS or name in _PASS_ON:
            pending.append(inputs[0])
        elif inputs:
            pending.append(inputs[_output_argument(instruction)])
    return True


def written_to_outputs(module: Module, results: Mapping[str, frozenset[str]]) -> Module:
    """Let a kernel whose result is only copied into a parameter of the program write there itself.

    Without offload_copy a program's results are parameters "main:#output_0", …; a kernel that MIGraphX found in a
    buffer of its own is followed by a hip::copy. It is left out where nothing else could have wanted that buffer.

    Args:
        module: main, with the kernels as gpu::code_object.
        results: ids of their results -> ids of all others that write to the buffer.
    """
    instructions, users = module.by_id(), module.users()
    replaced: dict[str, str] = {}
    targets: dict[str, str] = {}
    moved: dict[str, dict[str, str]] = {}
    for copy in module.instructions:
        if copy.name != "hip::copy":
            continue
        source, destination = copy.inputs
        parameter = instructions.get(destination)
        if source not in results or source in targets or parameter is None or parameter.name != "@param":
            continue
        buffer = instructions[source].inputs[_output_argument(instructions[source])]
        own = results[source] | {source}
        alone = own.issuperset(user.id for user in users[buffer]) and len(users[destination]) == 1
        if alone and _in_scratch(buffer, instructions) and parameter.shape == instructions[source].shape == copy.shape:
            targets[source] = destination
            replaced[copy.id] = source
            for each in own:
                moved.setdefault(each, {})[buffer] = destination
    if not targets:
        return module
    kept: list[Instruction] = []
    for instruction in module.instructions:
        if instruction.id in replaced:
            continue
        inputs = tuple(replaced.get(value, value) for value in instruction.inputs)
        if instruction.id in moved:
            inputs = tuple(moved[instruction.id].get(value, value) for value in inputs)
        kept.append(replace(instruction, inputs=inputs))
    return replace(module, instructions=_parameters_first(kept, set(targets.values())))


def without_unused(module: Module) -> Module:
    """Leave out the places in scratch buffers that nothing uses any more, and the unused ends of the buffers."""
    users = module.users()
    instructions = module.by_id()
    unused = {load.id for load in _scratch_loads(module, instructions) if not users[load.id]}
    ends: dict[str, int] = {}
    for value, readers in users.items():
        if value in instructions and instructions[value].name == SCRATCH:
            kept = [load for load in readers if load.id not in unused]
            if all(load.name == "load" for load in kept):
                ends[value] = max((int(load.operator["offset"]) + load.shape.nbytes for load in kept), default=0)
    new: list[Instruction] = []
    for instruction in module.instructions:
        end = ends.get(instruction.id, -1)
        if instruction.id in unused or end == 0:
            continue
        if 0 < end < instruction.shape.nbytes:
            instruction = _resized(instruction, end)
        new.append(instruction)
    return replace(module, instructions=tuple(new))


def _parameters_first(instructions: list[Instruction], wanted: set[str]) -> tuple[Instruction, ...]:
    """The output parameters in front, where every kernel finds them defined."""
    first = [instruction for instruction in instructions if instruction.id in wanted]
    return (*first, *(instruction for instruction in instructions if instruction.id not in wanted))


def _aligned(module: Module) -> Module:
    instructions = module.by_id()
    offsets: dict[str, set[int]] = {}
    for load in _scratch_loads(module, instructions):
        offsets.setdefault(load.inputs[0], set()).add(int(load.operator["offset"]))
    moved = {root: _moved(given) for root, given in offsets.items() if any(offset % ALIGNMENT for offset in given)}
    if not moved:
        return module
    ends: dict[str, int] = {}
    new: dict[str, Instruction] = {}
    for load in _scratch_loads(module, instructions):
        root = load.inputs[0]
        if root in moved:
            offset = moved[root][int(load.operator["offset"])]
            new[load.id] = _at(load, offset)
            ends[root] = max(ends.get(root, 0), offset + load.shape.nbytes)
    for root, end in ends.items():
        new[root] = _resized(instructions[root], max(end, instructions[root].shape.nbytes))
    return replace(module, instructions=tuple(new.get(i.id, i) for i in module.instructions))


def _at(load: Instruction, offset: int) -> Instruction:
    return replace(load, operator={**load.operator, "offset": offset})


def _resized(scratch: Instruction, nbytes: int) -> Instruction:
    shape = Shape.standard_of(scratch.shape.type, (nbytes,))
    return replace(scratch, shape=shape, operator={**scratch.operator, "shape": shape_fields(shape)})


def _scratch_loads(module: Module, instructions: Mapping[str, Instruction]) -> list[Instruction]:
    return [i for i in module.instructions if _in_scratch(i.id, instructions)]


def _in_scratch(value: str, instructions: Mapping[str, Instruction]) -> bool:
    load = instructions.get(value)
    if load is None or load.name != "load":
        return False
    root = instructions.get(load.inputs[0])
    return root is not None and root.name == SCRATCH


def _moved(offsets: set[int]) -> dict[int, int]:
    """The new place of each offset: no nearer to the one before, and aligned."""
    places: dict[int, int] = {}
    before = place = 0
    for offset in sorted(offsets):
        place += offset - before
        place += -place % ALIGNMENT
        places[offset], before = place, offset
    return places


def _slice_offset(instruction: Instruction, source: Shape) -> int:
    """Bytes in front of the first element."""
    fields, size = instruction.operator, source.dtype.itemsize
    total = 0
    for axis, start in zip(fields["axes"], fields["starts"], strict=True):
        length = source.lens[axis]
        total += min(max(start + length if start < 0 else start, 0), length) * source.strides[axis] * size
    return total


def _element_offset(whole: Shape, index: int) -> int:
    """Bytes in front of an element of a tuple: those of wider types come first (argument::assign_buffer)."""
    parts = sorted(range(len(whole.sub_shapes)), key=lambda part: -_width(whole.sub_shapes[part]))
    return sum(whole.sub_shapes[part].nbytes for part in parts[: parts.index(index)])


def _width(shape: Shape) -> int:
    return shape.nbytes // max(shape.element_space, 1)


def _output_argument(instruction: Instruction) -> int:
    """Index of the operand that an operator of the gpu target writes its result to."""
    return int(instruction.operator.get("output_arg", -1))
