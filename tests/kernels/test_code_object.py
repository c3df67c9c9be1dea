import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.code_object import Argument, read_code_object
from iree_migraphx.kernels.hal import read_hal

from .sources import dot, real_compiler


@pytest.fixture(scope="module")
def elf(hal_text):
    request = dot()
    (binaries,) = read_hal(hal_text(request, "gfx942:sramecc+:xnack-"), request.symbol).binaries.values()
    return binaries[0]


def test_what_llvm_wrote(elf):
    contents = read_code_object(elf)
    assert contents.target_id == "gfx942:sramecc+:xnack-"
    (kernel,) = contents.kernels
    assert kernel.name.startswith("iree_dot_add_dispatch_0_")
    assert kernel.arguments == tuple(Argument("global_buffer", 8 * index, 8) for index in range(4))
    assert kernel.workgroup_size[1:] == (1, 1)
    assert 0 < kernel.lds <= 65536
    assert kernel.vgprs > 0
    assert kernel.sgprs > 0
    assert kernel.wavefront == 64


@pytest.mark.parametrize(
    ("argument", "index", "pointer"),
    [
        (Argument("global_buffer", 16, 8), 2, True),
        (Argument("global_buffer", 16, 8), 1, False),
        (Argument("global_buffer", 16, 4), 2, False),
        (Argument("by_value", 16, 8), 2, False),
        (Argument("hidden_global_offset_x", 16, 8), 2, False),
    ],
)
def test_pointers_are_packed(argument, index, pointer):
    assert argument.is_pointer_at(index) is pointer


def edited(elf, change):
    """The code object with other metadata of the same length, so that nothing moves."""
    start = elf.index(msgpack.packb("amdhsa.kernels")) - 1
    unpacker = msgpack.Unpacker()
    unpacker.feed(elf[start:])
    metadata = unpacker.unpack()
    before = msgpack.packb(metadata)
    assert elf[start : start + len(before)] == before
    change(metadata)
    after = msgpack.packb(metadata)
    assert len(after) == len(before)
    return elf[:start] + after + elf[start + len(before) :]


def test_the_older_spelling_of_the_triple(elf):
    def older(metadata):
        assert metadata["amdhsa.target"].startswith("amdgpu9.42-amd-amdhsa-unknown-")
        metadata["amdhsa.target"] = "amdgcn-amd-amdhsa--gfx90a:xnack+".ljust(len(metadata["amdhsa.target"]))

    assert read_code_object(edited(elf, older)).target_id.strip() == "gfx90a:xnack+"


def test_a_kernel_without_its_descriptor(elf):
    def rename(metadata):
        metadata["amdhsa.kernels"][0][".name"] = metadata["amdhsa.kernels"][0][".name"][:-1] + "?"

    with pytest.raises(Refusal, match=r"no descriptor of the kernel .*\?") as raised:
        read_code_object(edited(elf, rename))
    assert raised.value.reason is Reason.BAD_COMPILER_OUTPUT


def test_a_program_of_the_host():
    with pytest.raises(Refusal, match="it is for the machine EM_") as raised:
        read_code_object(real_compiler().read_bytes())
    assert raised.value.reason is Reason.BAD_COMPILER_OUTPUT


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x7fELF", b"\0" * 4096])
def test_no_elf_at_all(data):
    with pytest.raises(Refusal) as raised:
        read_code_object(data)
    assert raised.value.reason is Reason.BAD_COMPILER_OUTPUT


def test_cut_short_anywhere(elf):
    for length in range(0, len(elf), 61):
        with pytest.raises(Refusal) as raised:
            read_code_object(elf[:length])
        assert raised.value.reason is Reason.BAD_COMPILER_OUTPUT


def test_an_offset_beyond_what_a_file_can_have(elf):
    damaged = elf[:0x28] + (2**63).to_bytes(8, "little") + elf[0x30:]
    with pytest.raises(Refusal, match="not a readable code object"):
        read_code_object(damaged)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damage_is_read_or_refused_and_nothing_else(elf, data):
    damaged = bytearray(elf)
    # The header and what it points to last: where damage leads a reader astray.
    places = st.one_of(st.integers(0, 1024), st.integers(len(elf) - 1400, len(elf) - 1))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        read_code_object(bytes(damaged))
    except Refusal as refusal:
        assert refusal.reason is Reason.BAD_COMPILER_OUTPUT
