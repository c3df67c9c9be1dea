"""From which instruction to which the places in a compiled gpu program's scratch memory are in use.

One interval a place, never too short: what may share memory with a place counts as that place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from iree_migraphx.ir.model import Instruction, Module, Program
from iree_migraphx.ir.operators import VIEWS
from iree_migraphx.splice.gpu_plan import Buffer

SCRATCH = "hip::hip_allocate_memory"

#: Operators that touch no memory: their result is a part of their operands'.
_NO_TOUCH = VIEWS | {"as_shape", "get_tuple_elem", "load"}

#: The result is the second operand, or memory of the host's (src/targets/gpu/include/migraphx/gpu/hip.hpp).
_COPIES = frozenset({"hip::copy", "hip::copy_from_gpu", "hip::copy_to_gpu"})

#: With several streams instructions don't end in the order in which they stand (src/targets/gpu/schedule_model.cpp).
_STREAMS = frozenset({"gpu::record_event", "gpu::set_stream", "gpu::wait_event"})


def lifetimes(program: Program, module: Module) -> dict[str, dict[str, Buffer]]:
    """When each place in a module's scratch memory is first and last touched.

    Returns:
        id of the scratch -> id of each `load` of it -> its bytes, and the indices of the first and the last instruction
        that touches them. A scratch is left out where not all is known about it.
    """
    if any(instruction.name in _STREAMS for instruction in program.instructions()):
        return {}
    known = module.by_id()
    loads: dict[str, list[str]] = {i.id: [] for i in module.instructions if i.name == SCRATCH}
    places: dict[str, set[str]] = {}
    touched: dict[str, tuple[int, int]] = {}
    unknown = {value for other in program.modules.values() if other is not module for value in _read(other)}
    for index, instruction in enumerate(module.instructions):
        if instruction.name == "load" and instruction.inputs[0] in loads:
            places[instruction.id] = {instruction.id}
            loads[instruction.inputs[0]].append(instruction.id)
            continue
        unknown.update(instruction.inputs)
        inside = [value for name in instruction.modules for _, i in program.walk(name) for value in i.inputs]
        for place in _union(places, [*instruction.inputs, *inside]):
            if index == len(known) - 1 and module is not program.main:
                # It is read after the module's end, and by the next round of a loop while that is under way.
                touched[place] = (0, index)
            elif instruction.name not in _NO_TOUCH:
                touched[place] = (touched.get(place, (index, index))[0], index)
        places[instruction.id] = _result(program, instruction, places)
    return {
        root: {load: Buffer(known[load].shape.nbytes, *touched.get(load, (0, len(known)))) for load in own}
        for root, own in loads.items()
        if root not in unknown
    }


def _result(program: Program, instruction: Instruction, places: Mapping[str, set[str]]) -> set[str]:
    """The places that a result may be in; for operators that are not known here those of all operands."""
    if instruction.modules:
        # Its operands are the submodules' parameters; the buffers for their results are among them.
        found = _union(places, instruction.inputs)
        for name in instruction.modules:
            inside = dict(places)
            for each in program.modules[name].instructions:
                inside[each.id] = _result(program, each, inside)
                last = each
            found |= _union(inside, [last.id, *last.inputs])
        return found
    if instruction.name.startswith("gpu::"):
        # All of 6.0 to 7.2 have an output_alias of this kind (src/targets/gpu/include/migraphx/gpu/*.hpp).
        return _union(
            places, instruction.inputs and [instruction.inputs[int(instruction.operator.get("output_arg", -1))]]
        )
    return _union(places, instruction.inputs[1:] if instruction.name in _COPIES else instruction.inputs)


def _union(places: Mapping[str, set[str]], values: Iterable[str]) -> set[str]:
    return {place for value in values for place in places.get(value, ())}


def _read(module: Module) -> Iterator[str]:
    for instruction in module.instructions:
        yield from instruction.inputs
