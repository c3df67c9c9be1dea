"""Where values lie after MIGraphX's compile: alignment, sharing, and results that are written in place."""

import numpy as np
import pytest

from gpu import nets
from gpu.harness import compiled, run_on_device
from iree_migraphx import binding
from iree_migraphx.errors import Reason
from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import shape_fields
from iree_migraphx.kernels.accept import ALIGNMENT
from iree_migraphx.splice import gpu, gpu_swap
from iree_migraphx.splice.gpu_memory import align_scratch, is_aligned, without_unused, written_to_outputs
from splice.models import convolutions, expected

F16 = "half_type"


def scratch(size):
    shape = Shape.standard_of("int8_type", (size,))
    fields = {"shape": shape_fields(shape), "id": "main:scratch"}
    return Instruction("s", "hip::hip_allocate_memory", shape, fields)


def load(id_, offset, *lens, type_=F16, root="s"):
    shape = Shape.standard_of(type_, lens)
    return Instruction(id_, "load", shape, {"shape": shape_fields(shape), "offset": offset}, (root,))


def node(id_, name, shape, *inputs, **fields):
    return Instruction(id_, name, shape, fields, inputs)


def program(*instructions):
    return Program(7, "2.14.0", {"main": Module("main", instructions)})


def by_id(made):
    return {i.id: i for i in made.instructions()}


def spans(made):
    return {i.id: (o := i.operator["offset"], o + i.shape.nbytes) for i in made.main.instructions if i.name == "load"}


def overlap(a, b):
    return max(a[0], b[0]) < min(a[1], b[1])


def test_offsets_are_aligned_and_nothing_comes_to_overlap():
    random = np.random.default_rng(0)
    for _ in range(50):
        offsets = random.integers(0, 200, 12) * 8
        loads = [load(f"l{n}", int(offset), int(random.integers(1, 60))) for n, offset in enumerate(offsets)]
        size = max(offset + each.shape.nbytes for offset, each in zip(offsets, loads, strict=True))
        before = program(scratch(int(size)), *loads)
        after = align_scratch(before)
        old, new = spans(before), spans(after)
        assert all(begin % ALIGNMENT == 0 for begin, _ in new.values())
        for a in old:
            for b in old:
                assert overlap(new[a], new[b]) <= overlap(old[a], old[b])
        root = by_id(after)["s"]
        assert root.shape.lens == tuple(root.operator["shape"]["lens"])
        assert root.shape.nbytes >= max(end for _, end in new.values())


def test_aligned_offsets_are_left_alone():
    before = program(scratch(128), load("a", 0, 8), load("b", 64, 8))
    assert align_scratch(before) == before


def test_loads_of_other_buffers_are_left_alone():
    """Parts of a buffer that is itself a value must stay where they are."""
    inner = load("b", 8, 4, root="a")
    after = by_id(align_scratch(program(scratch(64), load("a", 24, 16), inner)))
    assert after["b"] == inner
    assert after["a"].operator["offset"] == 32


@pytest.mark.parametrize(("start", "aligned"), [(0, True), (1, False), (2, True), (-2, True)])
def test_slices(start, aligned):
    source = load("a", 16, 4, 4)
    part = node("p", "slice", Shape(F16, (1, 4), (4, 1)), "a", axes=[0], starts=[start], ends=[4])
    assert is_aligned("p", by_id(program(scratch(64), source, part))) is aligned


@pytest.mark.parametrize(("index", "aligned"), [(0, False), (1, True), (2, False)])
def test_elements_of_a_tuple(index, aligned):
    """Wider types lie in front: 12 bytes of float, then 6 and 4 bytes of half."""
    parts = (Shape.standard_of(F16, (3,)), Shape.standard_of("float_type", (3,)), Shape.standard_of(F16, (2,)))
    whole = Instruction("t", "load", Shape("tuple_type", sub_shapes=parts), {"offset": 0}, ("s",))
    element = node("e", "get_tuple_elem", parts[index], "t", index=index)
    assert is_aligned("e", by_id(program(scratch(64), whole, element))) is aligned


def test_views_and_results_are_where_their_operand_is():
    shape = Shape.standard_of(F16, (4,))
    given = [
        scratch(64),
        load("a", 8, 4),
        load("b", 16, 4),
        node("v", "unsqueeze", shape, "a"),
        node("k", "gpu::code_object", shape, "a", "b", output_arg=-1),
        node("first", "gpu::code_object", shape, "a", "b", output_arg=0),
        node("c", "hip::copy", shape, "b", "a"),
    ]
    found = {name: is_aligned(name, by_id(program(*given))) for name in ("v", "k", "first", "c")}
    assert found == {"v": False, "k": True, "first": False, "c": False}


def written(*extra, copies=("c",), parameter=None):
    """A kernel k whose result is copied to the output o."""
    shape = Shape.standard_of(F16, (4,))
    given = [
        scratch(64),
        load("b", 0, 4),
        node("x", "@param", shape, parameter="x"),
        node("k", "gpu::code_object", shape, "x", "b", output_arg=-1),
        node("o", "@param", parameter or shape, parameter="main:#output_0"),
        node("c", "hip::copy", parameter or shape, "k", "o"),
        *extra,
        node("r", "@return", shape, *copies),
    ]
    return written_to_outputs(Module("main", tuple(given)), {"k": frozenset()}).instructions


def test_a_result_is_written_in_place():
    after = written()
    assert [i.id for i in after] == ["o", "s", "b", "x", "k", "r"]
    kernel, end = after[-2:]
    assert kernel.inputs == ("x", "o")
    assert end.inputs == ("k",)


def test_two_copies_of_a_result_leave_one():
    shape = Shape.standard_of(F16, (4,))
    second = node("p", "@param", shape, parameter="main:#output_1"), node("d", "hip::copy", shape, "k", "p")
    after = {i.id: i for i in written(*second, copies=("c", "d"))}
    assert after["k"].inputs == ("x", "o")
    assert after["d"].inputs == ("k", "p")
    assert after["r"].inputs == ("k", "d")


@pytest.mark.parametrize(
    "extra",
    [
        node("u", "gpu::code_object", Shape.standard_of(F16, (4,)), "b", "x", output_arg=-1),
        node("u", "gpu::code_object", Shape.standard_of(F16, (4,)), "x", "o", output_arg=-1),
    ],
    ids=["the buffer is read", "the output is used"],
)
def test_a_copy_that_is_needed_stays(extra):
    assert "c" in {i.id for i in written(extra)}


def test_a_copy_into_another_layout_stays():
    assert "c" in {i.id for i in written(parameter=Shape(F16, (2, 2), (1, 2)))}


def test_half_precision_offsets_are_repaired(virtual_device, kernel_options):
    """MIGraphX aligns the scratch memory of an f16 program to 8 bytes; IREE's kernels need 16."""
    onnx = nets.residual(np.float16, size=7, width=4)
    x = np.random.default_rng(1).standard_normal((1, 4, 7, 7)).astype(np.float16)
    done = compiled(onnx, kernel_options, virtual_device)
    assert done.report.swapped == 4
    (actual,) = run_on_device(done, virtual_device, {"x": x}, False)
    np.testing.assert_allclose(actual, expected(onnx, {"x": x})[0], rtol=2e-2, atol=2e-2)


def test_without_the_repair_no_kernel_gets_a_misaligned_pointer(virtual_device, kernel_options, monkeypatch):
    monkeypatch.setattr(gpu_swap, "align_scratch", lambda program: program)
    done = compiled(nets.residual(np.float16, size=7, width=4), kernel_options, virtual_device, compute=False)
    assert done.report.reasons[Reason.UNSUPPORTED_LAYOUT] > 0
    assert "not aligned to 16 bytes" in {s.detail.partition("is ")[2] for s in done.report.subgraphs if s.reason}.pop()


@pytest.mark.parametrize("net", [nets.residual, lambda: convolutions(count=6), nets.shared_results])
def test_no_more_memory_than_migraphx_plans(virtual_device, kernel_options, net):
    """For the same program without our kernels."""
    onnx = net()
    made = compiled(onnx, kernel_options, virtual_device).instructions()
    plain = binding.parse_onnx_buffer(onnx)
    plain.compile(binding.get_target("gpu"), offload_copy=False)
    assert scratch_bytes(made) <= scratch_bytes(read_program(binding.save_buffer(plain)))


def test_buffers_that_are_never_alive_together_share_memory(virtual_device, kernel_options):
    made = compiled(convolutions(count=6), kernel_options, virtual_device).instructions()
    places = list(spans(made).values())
    assert len(places) > len(set(places))


def test_places_that_nothing_uses_are_left_out():
    shape = Shape.standard_of(F16, (8,))
    given = [
        scratch(64),
        load("a", 0, 8),
        load("b", 16, 8),
        load("c", 48, 8),
        node("k", "gpu::code_object", shape, "b"),
    ]
    made = without_unused(Module("main", tuple(given)))
    assert [i.id for i in made.instructions] == ["s", "b", "k"]
    assert made.instructions[0].shape.lens == tuple(made.instructions[0].operator["shape"]["lens"]) == (32,)


def test_a_scratch_buffer_that_nothing_uses_is_left_out():
    kept = node("x", "@param", Shape.standard_of(F16, (8,)), parameter="x")
    assert without_unused(Module("main", (scratch(64), load("a", 0, 8), kept))).instructions == (kept,)


def scratch_bytes(made):
    return sum(i.shape.nbytes for i in made.instructions() if i.name == "hip::hip_allocate_memory")


def test_equal_buffers_would_be_merged(virtual_device, kernel_options, monkeypatch):
    """Why each buffer has a shape of its own: of equal ones MIGraphX leaves one, and two kernels would write there."""
    original = gpu.shape_fields
    monkeypatch.setattr(gpu, "shape_fields", lambda shape: {**original(shape), "strides": (shape.lens[1], 1)})
    done = compiled(nets.shared_results(), kernel_options, virtual_device)
    assert [s.detail for s in done.report.subgraphs if s.reason] == ["MIGraphX gave several kernels one buffer"] * 3
