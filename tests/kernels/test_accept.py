from dataclasses import replace

import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.accept import accept_gpu, accept_host, check_code_object, check_sequence
from iree_migraphx.kernels.model import Copy, Fill, Region, Request
from iree_migraphx.kernels.targets import parse_target

from .sources import COPY, EXP, TWO_DOTS, TWO_RESULTS, dot, elementwise

GFX942 = parse_target("gfx942")
DOT = dot()


def refusal(text, request, target=GFX942):
    with pytest.raises(Refusal) as raised:
        accept_gpu(text, request, target)
    return raised.value


@pytest.mark.parametrize(
    "name", ["gfx942", "gfx942:sramecc+:xnack-", "mi300x", "gfx90a", "gfx950", "gfx1100", "gfx1201"]
)
def test_a_dot_in_f16(name, hal_text):
    target = parse_target(name)
    kernel = accept_gpu(hal_text(DOT, name), DOT, target)
    assert kernel.symbol.startswith("iree_dot_add_dispatch_0_matmul")
    assert kernel.symbol.encode() + b".kd" in kernel.code_object
    assert kernel.operands == (0, 1, 2, 3)
    assert kernel.workgroups >= 1
    assert kernel.workgroup_size in (64, 128, 256, 512, 1024)
    resources = kernel.resources
    assert (resources.symbol, resources.workgroups, resources.workgroup_size) == (
        kernel.symbol,
        kernel.workgroups,
        kernel.workgroup_size,
    )
    assert resources.wavefront == (32 if target.gfx.startswith(("gfx11", "gfx12")) else 64)
    assert 0 < resources.lds_bytes <= target.lds


def test_pointers_come_in_the_order_of_use(hal_text):
    request = dot(order=("bias", "b", "a"))
    assert accept_gpu(hal_text(request), request, GFX942).operands == (2, 1, 0, 3)


def test_an_operand_that_is_not_read_is_no_pointer(hal_text):
    request = dot(unused=True)
    assert accept_gpu(hal_text(request), request, GFX942).operands == (0, 2, 3, 4)


def test_several_results_come_last_and_in_order(hal_text):
    assert accept_gpu(hal_text(TWO_RESULTS), TWO_RESULTS, GFX942).operands == (0, 1, 2)


def test_f32_on_gfx1100_wants_a_workgroup_of_two_dimensions(hal_text):
    request = dot(type_="f32")
    refused = refusal(hal_text(request, "gfx1100"), request, parse_target("gfx1100"))
    assert (refused.reason, refused.detail) == (Reason.BLOCK_NOT_1D, "32 x 8 x 1 work-items")


SCALAR = elementwise("%q = arith.mulf %x, %s : f16", arguments="%a: tensor<16x512xf16>, %s: f16", count=3)
DYNAMIC = Request(
    "iree_dynamic",
    elementwise(EXP, "iree_dynamic")
    .mlir.replace("16x512", "?x512")
    .replace("tensor.empty()", "tensor.empty(%n)")
    .replace("%o =", "%c = arith.constant 0 : index\n %n = tensor.dim %a, %c : tensor<?x512xf16>\n %o ="),
    2,
    "add",
)
CONSTANT = elementwise(
    "%i = linalg.index 1 : index\n %k = tensor.extract %t[%i] : tensor<512xf16>\n %q = arith.mulf %x, %k : f16",
    before=f"%t = arith.constant dense<[{', '.join(f'{i}.0' for i in range(512))}]> : tensor<512xf16>",
)


@pytest.mark.parametrize(
    ("request_", "reason", "detail"),
    [
        (COPY, Reason.FILL_OR_COPY, "hal.device.queue.copy"),
        (SCALAR, Reason.PUSH_CONSTANTS, "takes 1"),
        (DYNAMIC, Reason.PUSH_CONSTANTS, "takes "),
        (CONSTANT, Reason.PARTIAL_BINDING, "is to no argument but to a util.global.load"),
        (replace(DOT, arguments=5), Reason.BAD_COMPILER_OUTPUT, "3 operands and 1 result buffers, not 5"),
        (replace(DOT, symbol="other"), Reason.BAD_COMPILER_OUTPUT, "no function other"),
    ],
    ids=lambda value: value.symbol if isinstance(value, Request) else None,
)
def test_what_iree_makes_and_migraphx_can_not_launch(request_, reason, detail, hal_text):
    source = replace(request_, symbol=DOT.symbol, arguments=4) if request_.mlir == DOT.mlir else request_
    refused = refusal(hal_text(source), request_)
    assert refused.reason is reason
    assert detail in refused.detail


DISPATCH = "workgroups([%c1, %c1, %c1])"


@pytest.mark.parametrize(
    ("old", "new", "reason", "detail"),
    [
        (DISPATCH, "workgroups([%c1, %c2, %c1])", Reason.GRID_NOT_1D, "1 x 2 x 1 workgroups"),
        (DISPATCH, "workgroups([%c1, %c1, %c3])", Reason.GRID_NOT_1D, "1 x 1 x 3 workgroups"),
        (DISPATCH, "workgroups([%big, %c1, %c1])", Reason.GRID_NOT_1D, "too many for one launch"),
        (DISPATCH, "workgroups([%unknown, %c1, %c1])", Reason.DYNAMIC_GRID, "depend on values of a run"),
        (DISPATCH, f"{DISPATCH} constants([%push])", Reason.PUSH_CONSTANTS, "takes 1"),
        ("(%c1 : index)[%c0,", "(%c1 : index)[%odd,", Reason.PARTIAL_BINDING, "byte 8 of buffer 1"),
        ("(%c1 : index)[%c0,", "(%c1 : index)[%unknown,", Reason.PARTIAL_BINDING, "an offset of the run of buffer 1"),
        ("(%c1 : index)[%c0, %c3072]", "(%c1 : index)[%c0, %unknown]", Reason.PARTIAL_BINDING, "the size of a buffer"),
        ("(%c3 : index)[%c0,", "(%c2 : index)[%c0,", Reason.PARTIAL_BINDING, "[0, 1, 2, 2], not to each result once"),
        ("(%c0 : index)[%c0,", "(%c3 : index)[%c0,", Reason.PARTIAL_BINDING, "[3, 1, 2, 3], not to each result once"),
    ],
)
def test_launches_that_migraphx_can_not_make(old, new, reason, detail, hal_text):
    """Nothing small makes IREE write these: edit what it does write."""
    text = hal_text(DOT)
    assert old in text
    before, dispatch, after = text.partition("    hal.command_buffer.dispatch<")
    values = """%push = arith.constant 7 : i32
    %big = arith.constant 4294967295 : index
    %odd = arith.constant 8 : index
    %any = util.null : !hal.buffer
    %unknown = hal.buffer.length<%any : !hal.buffer> : index
"""
    text = before + values + dispatch + after
    refused = refusal(text.replace(old, new, 1), DOT)
    assert refused.reason is reason
    assert detail in refused.detail


def test_a_dispatch_that_may_not_run(hal_text):
    text = hal_text(DOT)
    start = text.index("    hal.command_buffer.dispatch<")
    end = text.index("    hal.command_buffer.execution_barrier<")
    body = text[start:end]
    text = f"{text[:start]}%maybe = arith.constant true\nscf.if %maybe {{\n{body}}}\n{text[end:]}"
    assert refusal(text, DOT).reason is Reason.MULTI_DISPATCH


def test_an_executable_with_two_variants(hal_text):
    lines = hal_text(DOT).splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if "hal.executable.binary" in line)
    lines.insert(number, lines[number].replace("@rocm_hsaco_fb", "@another"))
    assert "2 binaries of iree_dot_add_dispatch_0" in refusal("".join(lines), DOT).detail


RESULT_BYTES = 64 * 48 * 2
FILL = "fill_buffer<%cmd : !hal.command_buffer> target(%c3 : index)[%c0, %c6144] pattern(%value : i32)"


def beside(text, operation, value=0):
    """The dispatch with another operation in front of it."""
    place = "    hal.command_buffer.dispatch<"
    assert text.count(place) == 1
    constant = f"    %value = arith.constant {value} : i32\n"
    return text.replace(place, f'{constant}    hal.command_buffer.{operation} flags("None")\n{place}')


def test_a_fill_beside_the_dispatch(hal_text):
    sequence = accept_gpu(beside(hal_text(DOT), FILL), DOT, GFX942)
    fill, launch = sequence.steps
    assert fill == Fill(Region(3, 0, RESULT_BYTES))
    assert [region.buffer for region in launch.pointers] == [0, 1, 2, 3]
    assert (sequence.operands, sequence.temporaries) == ((0, 1, 2, 3), ())


def test_a_fill_with_something_else_than_zeros(hal_text):
    refused = refusal(beside(hal_text(DOT), FILL, value=7), DOT)
    assert (refused.reason, refused.detail.partition(",")[0]) == (
        Reason.FILL_OR_COPY,
        "hal.command_buffer.fill_buffer",
    )


def test_a_copy_beside_the_dispatch(hal_text):
    """The last half of the bias over its first half."""
    copy = "copy_buffer<%cmd : !hal.command_buffer> source(%c2 : index)[%half] target(%c2 : index)[%c0] length(%half)"
    text = beside(hal_text(DOT), copy).replace("%value = arith.constant 0 : i32", "%half = arith.constant 48 : index")
    copied, _ = accept_gpu(text, DOT, GFX942).steps
    assert copied == Copy(Region(2, 48, 48), Region(2, 0, 48))


def test_a_part_of_an_operand(hal_text):
    text = hal_text(DOT)
    sequence = accept_gpu(text.replace("(%c1 : index)[%c0,", "(%c1 : index)[%c96,", 1), DOT, GFX942)
    (launch,) = sequence.steps
    assert launch.pointers[1].offset == 96


def test_two_dispatches(hal_text):
    sequence = accept_gpu(hal_text(TWO_DOTS), TWO_DOTS, GFX942)
    assert sequence.temporaries == (64 * 64 * 4,)
    assert [[region.buffer for region in launch.pointers] for launch in sequence.launches] == [[0, 1, 4], [4, 2, 3]]
    assert sequence.resources.launches == 2
    assert sequence.code_object.startswith(b"\x7fELF")
    assert sequence.symbol == TWO_DOTS.symbol


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: replace(s, temporaries=(64,)), Reason.BAD_COMPILER_OUTPUT),
        (lambda s: replace(s, code_object=s.code_object[:3000]), Reason.BAD_COMPILER_OUTPUT),
        (lambda s: replace(s, steps=(replace(s.steps[0], pointers=s.steps[0].pointers[:2]),)), Reason.SCALAR_ARGUMENTS),
    ],
    ids=["a region", "the code object", "pointers"],
)
def test_a_sequence_is_checked(hal_text, change, reason):
    sequence = accept_gpu(hal_text(TWO_DOTS), TWO_DOTS, GFX942)
    assert check_sequence(sequence, GFX942) == sequence
    with pytest.raises(Refusal) as raised:
        check_sequence(change(sequence), GFX942)
    assert raised.value.reason is reason


@pytest.mark.parametrize("text", ["", "module {", "\0\0", "hello", "module {}", "builtin.module @x { }"])
def test_rubbish_instead_of_mlir(text):
    assert refusal(text, DOT).reason is Reason.BAD_COMPILER_OUTPUT


def test_a_module_cut_short(hal_text):
    text = hal_text(DOT)
    for length in range(100, len(text) - 2, len(text) // 40):
        assert refusal(text[:length], DOT).reason is Reason.BAD_COMPILER_OUTPUT


def test_the_code_object_is_for_the_target(hal_text):
    refused = refusal(hal_text(DOT), DOT, parse_target("gfx90a"))
    assert (refused.reason, refused.detail) == (Reason.WRONG_TARGET, "the code object is for gfx942, not gfx90a")
    assert refusal(hal_text(DOT), DOT, parse_target("gfx942:xnack-")).reason is Reason.WRONG_TARGET


@pytest.fixture
def kernel(hal_text):
    return accept_gpu(hal_text(DOT), DOT, GFX942)


def check(kernel, **changes):
    kernel = replace(kernel, **changes)
    return check_code_object(kernel.code_object, kernel.symbol, (kernel.workgroups, 1, 1), kernel.operands, GFX942)


def test_a_checked_code_object_is_the_same_kernel(kernel):
    assert check(kernel) == kernel


def test_lds_within_the_limit(kernel):
    lds = kernel.resources.lds_bytes
    arguments = (kernel.code_object, kernel.symbol, (kernel.workgroups, 1, 1), kernel.operands)
    assert check_code_object(*arguments, replace(GFX942, lds=lds)) == kernel
    with pytest.raises(Refusal, match=f"{lds} bytes; a workgroup on gfx942 has {lds - 1}") as raised:
        check_code_object(*arguments, replace(GFX942, lds=lds - 1))
    assert raised.value.reason is Reason.LDS_LIMIT


def test_scalars_among_the_arguments(kernel):
    changed = kernel.code_object.replace(b"\xadglobal_buffer", b"\xadby_value_____", 1)
    with pytest.raises(Refusal, match="argument 0 is by_value_____, 8 bytes at offset 0") as raised:
        check(kernel, code_object=changed)
    assert raised.value.reason is Reason.SCALAR_ARGUMENTS


def test_as_many_pointers_as_the_dispatch_has_bindings(kernel):
    with pytest.raises(Refusal, match="takes 4 pointers, the dispatch 3") as raised:
        check(kernel, operands=(0, 1, 3))
    assert raised.value.reason is Reason.SCALAR_ARGUMENTS


def test_exactly_the_kernel_of_the_dispatch(kernel):
    with pytest.raises(Refusal, match="instead of another") as raised:
        check(kernel, symbol="another")
    assert raised.value.reason is Reason.BAD_COMPILER_OUTPUT


@pytest.mark.parametrize("vmfb", [b"", b"rubbish" * 100, b"PK\3\4" + bytes(500)])
def test_rubbish_instead_of_a_vmfb(vmfb):
    with pytest.raises(Refusal) as raised:
        accept_host(vmfb, DOT)
    assert raised.value.reason is Reason.BAD_COMPILER_OUTPUT
