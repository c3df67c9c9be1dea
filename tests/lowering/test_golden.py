"""The MLIR of a few subgraphs, as text: what changes in it is seen. `--update-golden` writes the files anew."""

import difflib
from pathlib import Path

import numpy as np
import pytest

from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from programs import LAYOUTS, Builder, subgraphs_of

FOLDER = Path(__file__).parents[1] / "golden"


def biased(b, value, lens):
    return b.op("add", value, b.op("broadcast", b.param("bias", lens[1:2]), axis=1, out_lens=list(lens)))


def convolution(b):
    """Padding, stride, bias and relu, with constant filters."""
    x, w = b.param("x", (1, 4, 8, 8)), b.literal(np.ones((6, 4, 3, 3)))
    return b.op("relu", biased(b, b.conv(x, w, padding=[1, 1], stride=[2, 2]), (1, 6, 4, 4)))


def grouped(b):
    x, w = b.param("x", (2, 4, 5, 5), "half_type"), b.param("w", (6, 2, 3, 3), "half_type")
    return b.conv(x, w, group=2)


def depthwise(b):
    """The swish behind it reads the sums twice."""
    c = b.conv(b.param("x", (1, 4, 6, 6)), b.param("w", (4, 1, 3, 3)), padding=[1, 1], group=4)
    return b.op("mul", c, b.op("sigmoid", c))


def dot(b):
    """Half matrices, the second one transposed; a scalar; a row of biases."""
    w = b.op("transpose", b.param("w", (5, 7), "half_type"), permutation=[1, 0])
    d = b.op("dot", b.param("x", (3, 7), "half_type"), w)
    scaled = b.op("mul", d, b.spread(b.literal(0.5, "half_type"), (3, 5)))
    return b.op("add", scaled, b.spread(b.param("c", (5,), "half_type"), (3, 5)))


def heads(b):
    """A batch of dots whose result is reshaped, transposed and added to something."""
    d = b.op("dot", b.param("x", (2, 3, 4, 5)), b.param("w", (2, 3, 5, 6)))
    t = b.op("transpose", d, permutation=[0, 2, 1, 3])
    return b.op("add", b.op("reshape", t, dims=[2, 4, 18]), b.param("r", (2, 4, 18)))


def strided(b):
    """A permuted and a repeated operand, a slice of the one."""
    x = b.param("x", (4, 6), strides=(1, 4))
    s = b.op("slice", x, axes=[1], starts=[1], ends=[6])
    return b.op("dot", s, b.param("w", (5, 3), strides=(0, 1)))


CASES = [
    (make, form)
    for make in (convolution, grouped, depthwise, dot, heads, strided)
    for form in LAYOUTS
    if form is Form.OPERANDS or make in (convolution, depthwise)
]


@pytest.mark.parametrize("make, form", CASES, ids=lambda value: getattr(value, "value", None) or value.__name__)
def test_mlir(make, form, pytestconfig):
    builder = Builder()
    program = builder.build(make(builder))
    (subgraph,) = subgraphs_of(program, form, standard_operands=form is Form.CHANNELS_LAST)
    text = lower(subgraph, "kernel", form)
    file = FOLDER / f"{make.__name__}-{form.value}.mlir"
    if pytestconfig.getoption("--update-golden"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    wanted = file.read_text(encoding="utf-8")
    changes = difflib.unified_diff(wanted.splitlines(), text.splitlines(), str(file), "now", lineterm="")
    assert text == wanted, "\n".join(changes)


def test_every_file_has_a_case():
    assert {path.name for path in FOLDER.iterdir()} == {f"{make.__name__}-{form.value}.mlir" for make, form in CASES}
