"""The parameters of loop bodies, whose order a saved program does not tell."""

from __future__ import annotations

from dataclasses import replace

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Module, Program

_ITERATION = "int64_type"
_OUTPUT = ":#output_"


def with_ordered_loops(program: Program) -> Program:
    """Put the parameters of each loop's body into the order in which the loop passes them.

    MIGraphX passes them by position (src/include/migraphx/op/loop.hpp): the iteration, the condition, the state. It
    lists those of a parsed body last to first and saves them like that, but numbers them as listed when it loads them
    (src/module.cpp, add_parameter and insert_parameter), so that a loaded loop would get each value in another's place.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR where types and lengths do not tell one order from the other.
    """
    shapes = {instruction.id: instruction for instruction in program.instructions()}
    for instruction in program.instructions():
        if instruction.name != "loop":
            continue
        body = program.modules[instruction.modules[0]]
        listed = _parameters(body)
        inputs = [shapes[value] for value in instruction.inputs]
        orders = [order for order in (listed, listed[::-1]) if _fits(order, inputs)]
        if len(orders) != 1:
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"the order of the parameters of the loop {instruction.id!r}")
        program = program.with_module(_reordered(body, orders[0]))
    return program


def with_loops_like(program: Program, before: Program) -> Program:
    """Put the parameters of each loop's body into the order they have in a program that MIGraphX made this one of.

    Those that MIGraphX added follow: the buffers of a loop on the gpu, which it finds by name (targets/gpu/loop.cpp).

    Raises:
        Refusal: UNSUPPORTED_OPERATOR where a loop's body, or a parameter of it, was not there before.
    """
    for instruction in program.instructions():
        if instruction.name not in ("loop", "gpu::loop"):
            continue
        name = instruction.modules[0]
        if name not in before.modules:
            raise Refusal(
                Reason.UNSUPPORTED_OPERATOR, f"the loop {instruction.id!r} has a body that is not the program's"
            )
        body = program.modules[name]
        places = {_name(i): place for place, i in enumerate(_parameters(before.modules[name]))}
        listed = _parameters(body)
        passed = [i for i in listed if _OUTPUT not in _name(i)]
        if {_name(i) for i in passed} != places.keys():
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"the loop {instruction.id!r} has other parameters than before")
        added = [i for i in listed if _OUTPUT in _name(i)]
        program = program.with_module(_reordered(body, [*sorted(passed, key=lambda i: places[_name(i)]), *added]))
    return program


def _parameters(module: Module) -> list[Instruction]:
    return [instruction for instruction in module.instructions if instruction.name == "@param"]


def _name(parameter: Instruction) -> str:
    return str(parameter.operator["parameter"])


def _fits(parameters: list[Instruction], inputs: list[Instruction]) -> bool:
    if len(parameters) != len(inputs) or len(inputs) < 2:
        return False
    if parameters[0].shape.type != _ITERATION:
        return False
    return all(
        (parameter.shape.type, parameter.shape.lens) == (value.shape.type, value.shape.lens)
        for parameter, value in zip(parameters[1:], inputs[1:], strict=True)
    )


def _reordered(body: Module, parameters: list[Instruction]) -> Module:
    rest = [instruction for instruction in body.instructions if instruction.name != "@param"]
    return replace(body, instructions=(*parameters, *rest))
