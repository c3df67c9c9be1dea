"""Partitions of made-up graphs: whatever the graph, a subgraph replaces only what it may and computes the same."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.partition.partition import partition

SQUARE = Shape.standard_of("float_type", (2, 2))
#: Operator -> number of operands: an anchor, pointwise operators, a reshaper, and what no kernel takes.
OPERATORS = {"dot": 2, "add": 2, "mul": 2, "relu": 1, "exp": 1, "transpose": 1, "softmax": 1, "where": 3, "matrix": 2}
FIELDS = {"transpose": {"permutation": (1, 0)}}


@st.composite
def graphs(draw):
    """Up to 24 instructions over 2x2 matrices, each reading earlier ones, and some results."""
    nodes = [Instruction(f"p{i}", "@param", SQUARE, {"parameter": f"p{i}"}) for i in range(draw(st.integers(1, 3)))]
    for number in range(draw(st.integers(1, 24))):
        name = draw(st.sampled_from(sorted(OPERATORS)))
        # Near values are read more often, which makes chains and diamonds.
        back = st.one_of(st.integers(1, min(4, len(nodes))), st.integers(1, len(nodes)))
        inputs = tuple(nodes[-draw(back)].id for _ in range(OPERATORS[name]))
        nodes.append(Instruction(f"v{number}", name, SQUARE, FIELDS.get(name, {}), inputs))
    results = [*draw(st.lists(st.sampled_from([node.id for node in nodes]), max_size=3)), nodes[-1].id]
    nodes.append(Instruction("@return", "@return", SQUARE, {}, tuple(results)))
    return Program(7, "2.14.0", {"main": Module("main", tuple(nodes))})


def meanings(instructions, known):
    """Each value as a formula over the values that are known, as one number a formula."""
    numbers = dict(known)
    for instruction in instructions:
        if instruction.name != "@return" and instruction.id not in numbers:
            key = (instruction.name, *(numbers[value] for value in instruction.inputs))
            numbers[instruction.id] = FORMULAS.setdefault(key, len(FORMULAS))
    return numbers


FORMULAS: dict = {}


def check(program, standard):
    instructions = program.main.by_id()
    users = program.main.users()
    returned = set(program.main.instructions[-1].inputs)
    found = partition(program, forms.rules(Form.OPERANDS, standard))
    computed = set()
    values = meanings(
        [i for i in program.main.instructions if i.name != "@return"],
        {i.id: FORMULAS.setdefault(i.id, len(FORMULAS)) for i in program.main.instructions if i.name == "@param"},
    )
    assert sum(s.operators.count("dot") for s in found) == sum(i.name == "dot" for i in instructions.values())
    for subgraph in found:
        members = set(subgraph.members)
        assert subgraph.operators.count("dot") == 1
        assert "softmax" not in subgraph.operators
        assert "matrix" not in subgraph.operators
        (anchor,) = (value for value in members if instructions[value].name == "dot")
        core = {anchor}
        for value in subgraph.members:
            if core.intersection(instructions[value].inputs):
                core.add(value)
        # In front of the core there is nothing but views, which may be computed twice.
        assert all(instructions[value].name == "transpose" for value in members - core)
        assert not computed & core
        computed |= core
        # Only the result is seen from outside.
        for value in core - {subgraph.result}:
            assert value not in returned
            assert all(user.id in core for user in users[value])
        # No value twice, and the body is the same formula over the operands.
        assert len(set(subgraph.operands)) == len(subgraph.operands)
        parameters = {p.id: values[operand] for p, operand in zip(subgraph.parameters, subgraph.operands, strict=True)}
        body = meanings(subgraph.body.instructions, parameters)
        assert body[subgraph.body.instructions[-1].inputs[0]] == values[subgraph.result]
    acyclic(program, found)


def acyclic(program, found):
    """With each subgraph as one step, every result can still be computed in some order."""
    reads = {i.id: i.inputs for i in program.main.instructions}
    reads |= {subgraph.result: subgraph.operands for subgraph in found}
    done, open_ = set(), set()

    def visit(value):
        if value not in done:
            assert value not in open_, f"{value} waits for itself"
            open_.add(value)
            for source in reads[value]:
                visit(source)
            done.add(value)

    visit("@return")


@pytest.mark.parametrize("standard", [True, False], ids=["row-major", "as-they-are"])
def test_any_graph(examples, standard):
    @examples(300)
    @given(graphs())
    def run(program):
        check(program, standard)

    run()
