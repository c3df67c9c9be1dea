"""Made-up programs compiled whole, and their subgraphs one by one in the form that GPUs get, against MIGraphX."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

import batches
import iree_migraphx
import made_up
from iree_migraphx import binding
from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from programs import (
    Builder,
    assert_equal,
    body_of,
    inputs_of,
    kernels_of,
    loaded,
    on_iree,
    on_ref,
    subgraphs_of,
)

#: What a subgraph may be refused for: IREE's compiler takes everything that is lowered.
REFUSED = {Reason.UNSUPPORTED_OPERATOR, Reason.UNSUPPORTED_LAYOUT, Reason.UNSUPPORTED_TYPE}


#: Programs of one compile.
PROGRAMS = 20
#: Those of 8-bit floats have their own tests: the CPU's runtime gives kernels bytes.
FORMS = [form for form in Form if not form.float8]


def test_whole_programs(examples, kernel_options):
    @examples(20)
    @given(made_up.programs())
    def run(program):
        compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=kernel_options)
        report = compiled.iree_report
        assert report.reason is None, report.note
        assert set(report.reasons) <= REFUSED, [(s.name, s.detail) for s in report.subgraphs if s.reason]
        inputs = inputs_of(program)
        for actual, expected in zip(compiled.run(inputs), on_ref(program, inputs), strict=True):
            assert_equal(np.array(actual), expected)

    run()


def test_subgraphs_over_operands_of_any_layout(examples, kernel_options):
    @examples(20)
    @given(made_up.programs(most=6))
    def run(program):
        subgraphs = subgraphs_of(program, Form.OPERANDS, standard_operands=False)
        kernels = kernels_of(subgraphs, Form.OPERANDS, kernel_options)
        for subgraph in subgraphs:
            kernel = kernels[subgraph.key].kernel
            if isinstance(kernel, Refusal):
                assert kernel.reason in REFUSED, kernel
                continue
            body = body_of(subgraph)
            inputs = inputs_of(body)
            assert_equal(on_iree(subgraph, kernel, inputs), on_ref(body, inputs)[0])

    run()


def is_lowered(subgraph, form):
    try:
        return bool(lower(subgraph, "kernel", form))
    except Refusal as refusal:
        assert refusal.reason in REFUSED, refusal
        return False


def test_many_subgraphs_with_one_compile(examples, kernel_options):
    """With --examples N, N times as many programs."""

    @examples(2)
    @given(st.lists(made_up.programs(most=4), min_size=PROGRAMS, max_size=PROGRAMS), st.sampled_from(FORMS))
    def run(programs, form):
        subgraphs = [s for program in programs for s in subgraphs_of(program, form, standard_operands=False)]
        lowered = [subgraph for subgraph in subgraphs if is_lowered(subgraph, form)]
        batch = batches.compiled_together(lowered, kernel_options, form)
        for index, subgraph in enumerate(lowered):
            body = body_of(subgraph)
            inputs = inputs_of(body)
            assert_equal(batch.run(index, inputs), on_ref(body, inputs)[0])

    run()


def test_an_operand_whose_layout_changes_while_migraphx_compiles(kernel_options):
    """A copy behind the first `where` makes the slice dense, and the second `where` then keeps the slice's layout."""
    b = Builder()
    x, c = b.param("x", (4, 3, 4, 5), strides=(1, 4, 60, 12)), b.param("c", (4, 3, 4, 5), "bool_type")
    t = b.op("transpose", b.op("where", c, x, x), permutation=[3, 2, 1, 0])
    s = b.op("slice", t, axes=[3], starts=[0], ends=[2])
    y = b.op("where", b.param("d", (5, 4, 3, 2), "bool_type"), s, s)
    program = b.build(b.conv(y, b.param("w", (1, 4, 1, 1))))
    compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=kernel_options)
    assert compiled.iree_report.swapped == 1, compiled.iree_report.note
    inputs = inputs_of(program)
    assert_equal(np.array(compiled.run(inputs)[0]), on_ref(program, inputs)[0])
