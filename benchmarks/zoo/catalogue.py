"""Every model of the zoo, at its published lengths and small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from .detector import Yolo
from .graph import Array
from .recurrent import Tagger
from .transformer import Bert, Encoder, Gpt2Block
from .vision import ConvNeXt, EfficientNet, MobileNetV3, ResNet, ViT


class Architecture(Protocol):
    """A structure with its lengths."""

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model, with random weights that follow from the seed."""


@dataclass(frozen=True)
class Entry:
    """A model at real lengths, and the same structure made small."""

    real: Architecture
    small: Architecture


_SMALL = Encoder(width=32, heads=4, layers=2, hidden=64)

ZOO: dict[str, Entry] = {
    "bert_base": Entry(Bert(), Bert(tokens=8, vocabulary=50, encoder=_SMALL)),
    "vit_b16": Entry(ViT(), ViT(size=32, patch=8, encoder=_SMALL, classes=10)),
    "resnet50": Entry(ResNet(), ResNet(size=32, stem=8, depths=(1, 2), classes=10)),
    "mobilenet_v3": Entry(
        MobileNetV3(),
        MobileNetV3(
            size=32, stem=8, last=32, hidden=24, classes=10,
            blocks=((3, 8, 8, False, "Relu", 1), (3, 16, 8, True, "Relu", 1), (5, 24, 16, True, "HardSwish", 2)),
        ),
    ),
    "efficientnet_b0": Entry(
        EfficientNet(),
        EfficientNet(size=32, stem=8, stages=((1, 3, 1, 8, 1), (4, 3, 2, 12, 2), (4, 5, 1, 16, 1)), head=32, classes=9),
    ),
    "convnext_t": Entry(ConvNeXt(), ConvNeXt(size=32, widths=(8, 16), depths=(1, 2), classes=10)),
    "yolo": Entry(
        Yolo(), Yolo(size=64, widths=(8, 8, 16, 16, 32), depths=(1, 1, 1, 1), classes=4, bins=4, masks=4)
    ),
    "gpt2_block": Entry(Gpt2Block(), Gpt2Block(past=5, new=3, encoder=_SMALL)),
    "tagger": Entry(Tagger(), Tagger(tokens=5, vocabulary=50, embedding=16, hidden=8, tags=5)),
}  # fmt: skip


def inputs_of(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Random values for every input: token ids below the table's length, a mask that ends early, else normal noise."""
    random = np.random.default_rng(seed)
    rows = {name: tensor.dims[0] for tensor in model.graph.initializer for name in _readers(model, tensor.name)}
    values = {}
    for given in model.graph.input:
        lens = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
        if given.name == "attention_mask":
            values[given.name] = np.broadcast_to(np.arange(lens[-1]) < 3 * lens[-1] // 4, lens).astype(np.int64)
        elif given.name in rows:
            values[given.name] = random.integers(0, rows[given.name], lens)
        else:
            values[given.name] = random.standard_normal(lens).astype(np.float32)
    return values


def _readers(model: onnx.ModelProto, table: str) -> list[str]:
    """What a table is looked up by."""
    return [node.input[1] for node in model.graph.node if node.op_type == "Gather" and node.input[0] == table]
