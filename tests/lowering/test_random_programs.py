"""Random programs of everything that the lowering's tables have, and that what judges them would notice a fault.

For more of them: `python -m random_programs --help`, with tests/ on PYTHONPATH.
"""

import numpy as np
import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import DTYPES
from iree_migraphx.lowering.anchors import Form
from programs import Builder, on_ref, text
from random_programs import shrink, together
from random_programs.check import REFUSED, Finding, Outcome, alike, check, inputs_of
from random_programs.choices import Choices
from random_programs.coverage import KNOWN, Coverage
from random_programs.generate import Example, distinct, example
from random_programs.gpus import computes_nothing, gpu_kernels
from random_programs.judge import Step, fault
from random_programs.values import Kind

#: Programs of each test, and what the tests' programs are made of.
COUNT, SEEDS = 500, ("0", "1", "2", "3")
#: What is not made up: it needs strides of its operand that nothing here looks after, or `ref` gets it wrong
#: (docs/facts.md).
LEFT_OUT = {"reshape_lazy", "lrn"}


@pytest.fixture(scope="module")
def known():
    return set()


def assert_right(outcome):
    said = [f"{f.said}\n{text(f.example.program)}\nchoices: {f.example.choices}" for f in outcome.findings]
    assert not said, "\n\n".join(said)


@pytest.mark.parametrize("seed", SEEDS)
def test_programs(known, examples_wanted, seed):
    """With --examples N, N of each seed."""
    number, right = 0, 0
    wanted = examples_wanted or COUNT
    while right < wanted:
        made, number = distinct(seed, number, min(125, wanted - right), known)
        outcome = check(made)
        assert_right(outcome)
        right += len(outcome.right)
        assert len(outcome.refused) < len(made) // 10 + 2, outcome.refused
        assert len(outcome.rejected) < len(made) // 50 + 2, outcome.rejected


def test_programs_compiled_as_the_product_does(known):
    """Larger ones, too, whose loops are tiled and vectorised."""
    for large in (False, True):
        made, _ = distinct("own", 0, 8, known, large)
        outcome = check(made, own=True)
        assert_right(outcome)
        assert len(outcome.right) >= 6


@pytest.mark.parametrize("gpu", ["gfx942", "gfx1100"])
def test_programs_on_gpus(kernel_options, gpu):
    """Most are kernels, and IREE dies of none of these; what it has an error for stays with MIGraphX."""
    made, _ = distinct("gpus", 0, 60, set())
    kernels = gpu_kernels([each.program for each in made], gpu, kernel_options)
    refused = [each for each in kernels if isinstance(each, Refusal)]
    left = [each for each in refused if not computes_nothing(each)]
    assert len(left) <= 6, left
    assert {each.reason for each in left} <= {*REFUSED, Reason.COMPILE_ERROR, Reason.PARTIAL_BINDING}, left


def test_all_operators_are_made_up():
    made, _ = distinct("cover", 0, 1500, set())
    coverage = Coverage()
    coverage.add(made)
    assert coverage.missing <= LEFT_OUT, "generate.py has no way to make up these operators of the lowering's tables"
    assert KNOWN & LEFT_OUT == LEFT_OUT


def test_choices_make_the_same_again():
    for number in range(20):
        made = example(Choices(f"again/{number}"))
        again = example(Choices(given=made.choices), made.large)
        assert again.digest == made.digest and again.kinds == made.kinds
        for name, value in inputs_of(made).items():
            assert value.tobytes() == inputs_of(again)[name].tobytes()


def test_equal_programs_have_one_digest():
    def made(value, lens=(4,)):
        b = Builder()
        program = b.build(b.op("add", b.param("x", lens), b.spread(b.literal(value), lens)))
        return Example(program, {}, Form.OPERANDS, False, ())

    assert made(1.0).digest == made(2.0).digest != made(1.0, (5,)).digest


def test_what_is_wrong_is_made_small(monkeypatch):
    """With a check that takes every transposed convolution for wrong."""

    def pretended(examples, own=False):
        wrong = [e for e in examples if any(i.name == "convolution_backwards" for i in e.program.main.instructions)]
        return Outcome(findings=[Finding(each, "wrong") for each in wrong])

    monkeypatch.setattr(shrink, "check", pretended)
    made, _ = distinct("small", 0, 60, set())
    start = max(pretended(made).findings, key=lambda each: len(each.example.program.main.instructions))
    small = shrink.smaller(start)
    names = [i.name for i in small.example.program.main.instructions]
    assert len(names) < len(start.example.program.main.instructions)
    assert names == ["@param", "@param", "convolution_backwards", "@return"], names


def steps():
    """An operator of each kind that is judged by a rule of its own, over 2x3x4x4."""
    b = Builder()
    x = b.param("x", (2, 3, 4, 4))
    y = b.param("y", (2, 3, 4, 4))
    window = {"padding": [0] * 4, "stride": [1, 1], "padding_mode": 0}
    yield b.build(b.op("dot", x, y))
    yield b.build(b.op("add", x, y))
    yield b.build(b.op("exp", x))
    yield b.build(b.op("concat", x, y, axis=1))
    yield b.build(b.op("convert", x, target_type=1))
    yield b.build(b.op("quantizelinear", x, b.spread(b.literal(0.5), (2, 3, 4, 4)), out_type=5))
    yield b.build(b.op("reduce_sum", x, axes=[1]))
    yield b.build(b.op("reduce_prod", x, axes=[1]))
    yield b.build(b.op("softmax", x, axis=1))
    yield b.build(b.op("logsoftmax", x, axis=1))
    for mode in (0, 1, 2):
        fields = {"mode": mode, "lengths": [2, 2], "dilations": [1, 1], "lp_order": 2, "ceil_mode": False}
        yield b.build(b.op("pooling", x, **window, **fields, count_include_pad=False, dyn_global=False))


@pytest.mark.parametrize("program", list(steps()), ids=lambda program: program.main.instructions[-2].name)
def test_a_wrong_element_is_noticed(program):
    instruction = program.main.instructions[-2]
    random = np.random.default_rng(1)
    values = {name: (1 + random.random((2, 3, 4, 4))).astype(np.float32) for name in ("x", "y")}
    inputs = {i.operator["parameter"]: values[i.id] for i in program.main.instructions if i.name == "@param"}
    (right,) = on_ref(program, inputs)
    step = Step(program, instruction, values)
    assert fault(step, right) is None
    wrong = right.copy()
    wrong.reshape(-1)[7] += np.array(0.01 if right.dtype.kind == "f" else 1, right.dtype) * (
        1 + abs(wrong.reshape(-1)[7])
    )
    assert fault(step, wrong) is not None
    if right.dtype.kind == "f":
        wrong.reshape(-1)[7] = np.nan
        assert fault(step, wrong) is not None


def test_numbers_beyond_what_attention_takes_are_no_mistake():
    """Found at random: IREE's operation multiplies a query of 3.4e38 by log2(e)."""
    b = Builder()
    scores = b.op("dot", b.param("q", (1, 1, 3)), b.param("k", (1, 3, 2)))
    program = b.build(b.op("dot", b.op("softmax", scores, axis=2), b.param("v", (1, 2, 1))))
    kinds = {"q": Kind("edges", 38689), "k": Kind("whole", 0), "v": Kind("whole", 2)}
    outcome = check([Example(program, kinds, Form.OPERANDS, False, ())], own=True)
    assert_right(outcome)
    assert outcome.looked_at


def test_a_remainder_that_is_flushed_is_no_mistake():
    """Found at random: -2 mod 1.43e-38, of which the remainder is denormal."""
    b = Builder()
    program = b.build(b.op("mod", b.param("x", (4,), "bf16_type"), b.param("y", (4,), "bf16_type")))
    x, y = np.full(4, -2.0), np.full(4, 1.432633740064663e-38)
    values = {name: value.astype(DTYPES["bf16_type"]) for name, value in (("x", x), ("y", y))}
    step = Step(program, program.main.instructions[-2], values)
    assert fault(step, np.zeros(4, DTYPES["bf16_type"])) is None
    assert fault(step, np.ones(4, DTYPES["bf16_type"])) is not None


def test_a_double_made_of_a_sum_of_floats_is_as_near_as_that():
    """Found at random: an attention, which is one operation or several, and behind it a convert."""
    first, now = np.array([0.96783167, 0.11215416, -0.29447114]), np.array([0.96783179, 0.11215415, -0.29447114])
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    assert alike(first, now, [single])
    assert not alike(first, now, [double])
    assert not alike(first, now, [])
    assert not alike(first, now + 1e-4, [single])


def test_iree_says_which_module_it_refuses():
    function = together.Function((), "%arg0: tensor<2xf32>, %arg1: !hal.buffer", "tensor<3xf32>", (), "%arg0")
    with pytest.raises(together.CompileError, match="tensor<2xf32>"):
        together.compiled([function], own=True)
