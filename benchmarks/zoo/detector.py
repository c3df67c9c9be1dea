"""A detector in the manner of YOLOv8: a backbone, two ways through a pyramid, heads, and masks by ConvTranspose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .graph import Graph


@dataclass(frozen=True)
class Yolo:
    """YOLOv8n-seg's structure.

    Attributes:
        widths: channels at strides 2, 4, 8, 16 and 32.
        depths: bottlenecks of the four stages.
        bins: of the distribution over a box's distances.
        masks: prototypes of masks.
    """

    size: int = 640
    widths: Sequence[int] = (16, 32, 64, 128, 256)
    depths: Sequence[int] = (1, 2, 2, 1)
    classes: int = 80
    bins: int = 16
    masks: int = 32

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: image -> boxes (1x(4+classes+masks)xanchors), prototypes."""
        g, w = Graph("yolo", seed), self.widths
        x = g.conv_bn(g.input("image", (1, 3, self.size, self.size)), 3, w[0], 3, 2, activation="Silu")
        levels = []
        for stage, depth in enumerate(self.depths):
            x = g.conv_bn(x, w[stage], w[stage + 1], 3, 2, activation="Silu")
            x = _split_stage(g, x, w[stage + 1], w[stage + 1], depth, shortcut=True)
            levels.append(x)
        p3, p4, p5 = levels[1], levels[2], _pyramid_pooling(g, levels[3], w[4])
        n4 = _split_stage(g, g.op("Concat", _upsample(g, p5), p4, axis=1), w[4] + w[3], w[3], 1)
        n3 = _split_stage(g, g.op("Concat", _upsample(g, n4), p3, axis=1), w[3] + w[2], w[2], 1)
        down = g.conv_bn(n3, w[2], w[2], 3, 2, activation="Silu")
        n4 = _split_stage(g, g.op("Concat", down, n4, axis=1), w[2] + w[3], w[3], 1)
        down = g.conv_bn(n4, w[3], w[3], 3, 2, activation="Silu")
        n5 = _split_stage(g, g.op("Concat", down, p5, axis=1), w[3] + w[4], w[4], 1)
        g.output(self._heads(g, (n3, n4, n5)), "boxes")
        g.output(self._prototypes(g, n3), "prototypes")
        return g.model()

    def _heads(self, g: Graph, levels: Sequence[str]) -> str:
        found = []
        for level, (x, ins) in enumerate(zip(levels, self.widths[2:], strict=True)):
            cells = (self.size // 2 ** (3 + level)) ** 2
            inner = max(16, self.widths[2] // 4, 4 * self.bins)
            parts = []
            for outs in (4 * self.bins, self.classes, self.masks):
                y = g.conv_bn(x, ins, inner, 3, activation="Silu")
                y = g.conv_bn(y, inner, inner, 3, activation="Silu")
                parts.append(g.reshape(g.conv(y, inner, outs, 1), 1, outs, cells))
            found.append(g.op("Concat", *parts, axis=1))
        x = g.op("Concat", *found, axis=2)
        sizes = g.ints(4 * self.bins, self.classes, self.masks)
        boxes, classes, masks = g.ops("Split", 3, x, sizes, axis=1)
        anchors = sum((self.size // 2 ** (3 + level)) ** 2 for level in range(3))
        boxes = g.op("Softmax", g.transpose(g.reshape(boxes, 1, 4, self.bins, anchors), 0, 2, 1, 3), axis=1)
        steps = g.weight(np.arange(self.bins, dtype=np.float32).reshape(1, self.bins, 1, 1))
        boxes = g.reshape(g.op("Conv", boxes, steps), 1, 4, anchors)
        near, far = g.ops("Split", 2, boxes, g.ints(2, 2), axis=1)
        centres, strides = self._grid()
        near, far = g.op("Sub", g.weight(centres), near), g.op("Add", far, g.weight(centres))
        middle = g.op("Div", g.op("Add", near, far), g.constant(2.0))
        boxes = g.op("Mul", g.op("Concat", middle, g.op("Sub", far, near), axis=1), g.weight(strides))
        return g.op("Concat", boxes, g.op("Sigmoid", classes), masks, axis=1)

    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of all cells in units of their stride (1x2xanchors), and the strides (1x1xanchors)."""
        centres, strides = [], []
        for stride in (8, 16, 32):
            across, down = np.meshgrid(*[np.arange(self.size // stride) + 0.5] * 2)
            centres.append(np.stack([across.ravel(), down.ravel()]))
            strides.append(np.full((1, across.size), stride))
        return tuple(np.concatenate(each, axis=1)[None].astype(np.float32) for each in (centres, strides))

    def _prototypes(self, g: Graph, x: str) -> str:
        wide = self.widths[2]
        x = g.conv_bn(x, wide, wide, 3, activation="Silu")
        weights = g.weight(g.normal((wide, wide, 2, 2), wide**-0.5))
        x = g.op("ConvTranspose", x, weights, g.weight(g.normal((wide,), 0.1)), kernel_shape=[2, 2], strides=[2, 2])
        x = g.conv_bn(x, wide, wide, 3, activation="Silu")
        return g.conv_bn(x, wide, self.masks, 1, activation="Silu")


def _split_stage(g: Graph, x: str, ins: int, outs: int, depth: int, shortcut: bool = False) -> str:
    """Half of the channels go through bottlenecks, and every step's result is kept (C2f)."""
    half = outs // 2
    parts = g.ops("Split", 2, g.conv_bn(x, ins, outs, 1, activation="Silu"), g.ints(half, half), axis=1)
    for _ in range(depth):
        y = g.conv_bn(parts[-1], half, half, 3, activation="Silu")
        y = g.conv_bn(y, half, half, 3, activation="Silu")
        parts.append(g.op("Add", parts[-1], y) if shortcut else y)
    return g.conv_bn(g.op("Concat", *parts, axis=1), (2 + depth) * half, outs, 1, activation="Silu")


def _pyramid_pooling(g: Graph, x: str, width: int) -> str:
    """Three poolings one behind the other (SPPF)."""
    parts = [g.conv_bn(x, width, width // 2, 1, activation="Silu")]
    for _ in range(3):
        parts.append(g.op("MaxPool", parts[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
    return g.conv_bn(g.op("Concat", *parts, axis=1), 2 * width, width, 1, activation="Silu")


def _upsample(g: Graph, x: str) -> str:
    scales = g.constant((1.0, 1.0, 2.0, 2.0))
    mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return g.op("Resize", x, "", scales, **mode)
