import json
from types import SimpleNamespace

import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels import lowered, requests
from iree_migraphx.kernels.lowered import Lowered, LoweredTexts
from iree_migraphx.lowering.anchors import Form

MODULE = Lowered("module {}\n")
REFUSED = Lowered(refusal=Refusal(Reason.UNSUPPORTED_OPERATOR, "this one – é"))
KEY = ("0123", "iree_dot", "operands")


def path(options):
    (found,) = (options.cache_dir / "lowered").iterdir()
    return found


def same(one, other):
    if one is None or other is None or one.refusal is None or other.refusal is None:
        return one == other
    return (one.refusal.reason, one.refusal.detail) == (other.refusal.reason, other.refusal.detail)


@pytest.mark.parametrize("what", [MODULE, REFUSED], ids=["module", "refusal"])
def test_what_is_stored_comes_back(what, options):
    assert LoweredTexts(options).load(*KEY) is None
    LoweredTexts(options).store(*KEY, what)
    assert same(LoweredTexts(options).load(*KEY), what)
    for other in (("0124", *KEY[1:]), (KEY[0], "iree_dat", KEY[2]), (*KEY[:2], "channels-last")):
        assert LoweredTexts(options).load(*other) is None


def test_other_code_lowers_again(options, monkeypatch):
    LoweredTexts(options).store(*KEY, MODULE)
    monkeypatch.setattr(lowered, "sources_digest", lambda: "other")
    assert LoweredTexts(options).load(*KEY) is None


def test_the_digest_is_of_all_code_that_lowers():
    from iree_migraphx.lowering import pointwise

    lowered.sources_digest.cache_clear()
    before = lowered.sources_digest()
    original = lowered.Path.read_bytes
    for changed in ("pointwise.py", "requests.py", "partition.py", "layout.py"):
        lowered.sources_digest.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                lowered.Path, "read_bytes", lambda self, name=changed: original(self) + b"#" * (self.name == name)
            )
            assert lowered.sources_digest() != before, changed
    lowered.sources_digest.cache_clear()
    assert lowered.sources_digest() == before
    assert pointwise.__file__


def test_other_bindings_lower_again_but_not_what_was_shipped(options, monkeypatch, tmp_path):
    LoweredTexts(options).store(*KEY, MODULE)
    monkeypatch.setattr(lowered, "bindings_version", lambda: "9.9")
    assert LoweredTexts(options).load(*KEY) is None
    from dataclasses import replace

    shipped = replace(options, cache_dir=tmp_path / "own", cache_readonly=(options.cache_dir,))
    assert LoweredTexts(shipped).load(*KEY) == MODULE
    LoweredTexts(options).store(*KEY, MODULE)
    assert LoweredTexts(options).load(*KEY) == MODULE
    monkeypatch.setattr(lowered, "bindings_version", lambda: "")
    assert LoweredTexts(options).load(*KEY) == MODULE, "nothing else can be had"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"checksum": 1}', "\xff"])
def test_damage_is_a_warning_and_lowered_anew(text, options, caplog):
    LoweredTexts(options).store(*KEY, MODULE)
    path(options).write_text(text, encoding="latin-1")
    assert LoweredTexts(options).load(*KEY) is None
    assert "can't be used" in caplog.text
    LoweredTexts(options).store(*KEY, MODULE)
    assert LoweredTexts(options).load(*KEY) == MODULE


def test_no_bit_of_it_can_change(options):
    LoweredTexts(options).store(*KEY, MODULE)
    data = path(options).read_bytes()
    where = path(options)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        where.write_bytes(flipped)
        loaded = LoweredTexts(options).load(*KEY)
        assert loaded in (None, MODULE), flipped


def test_another_ones_file_is_not_taken(options):
    LoweredTexts(options).store(*KEY, MODULE)
    data = path(options).read_bytes()
    path(options).unlink()
    LoweredTexts(options).store("9999", *KEY[1:], REFUSED)
    path(options).write_bytes(data)
    assert LoweredTexts(options).load("9999", *KEY[1:]) is None


def test_a_cache_that_does_not_work_is_no_trouble(options, tmp_path):
    options.cache_dir.touch()
    LoweredTexts(options).store(*KEY, MODULE)
    assert LoweredTexts(options).load(*KEY) is None


def subgraph(key="0123"):
    return SimpleNamespace(key=key, name="dot_add_3", anchor="dot", operands=("a", "b"), results=("c",))


def test_a_subgraph_is_lowered_once(options, monkeypatch):
    symbols = []

    def lower(subgraph, symbol, form):
        symbols.append(symbol)
        if subgraph.key == "9999":
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, "no")
        return f"// {symbol}"

    monkeypatch.setattr(requests.emit, "lower", lower)
    for _ in range(2):
        made, refused = requests.requests([subgraph(), subgraph("9999"), subgraph()], Form.OPERANDS, options)
        assert made["0123"].mlir == "// iree_dot_add_0123"
        assert refused["9999"].reason is Reason.UNSUPPORTED_OPERATOR
    assert symbols == ["iree_dot_add_0123", "iree_dot_add_9999"]
    requests.requests([subgraph()], Form.OPERANDS)
    assert len(symbols) == 3, "without options there is no cache"


def test_no_bindings_is_a_refusal_that_is_not_kept(options, monkeypatch):
    monkeypatch.setattr(requests.emit, "lower", lambda *arguments: __import__("iree.no_such_module"))
    for _ in range(2):
        _, refused = requests.requests([subgraph()], Form.OPERANDS, options)
        assert refused["0123"].reason is Reason.NO_COMPILER
    assert not list((options.cache_dir / "lowered").glob("*"))


def test_it_can_be_read_by_a_person(options):
    LoweredTexts(options).store(*KEY, MODULE)
    meta = json.loads(path(options).read_text())
    assert (meta["symbol"], meta["mlir"], meta["bindings"]) == ("iree_dot", MODULE.mlir, lowered.bindings_version())
