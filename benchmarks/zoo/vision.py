"""Image classifiers and a detector: the published structures, every length a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .graph import Graph
from .transformer import BASE, Encoder, encoder_layer


def _divisible(value: float) -> int:
    """The nearest multiple of 8, at most a tenth below."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class ResNet:
    """Residual bottlenecks (He and others 2015, with the stride in the 3x3 as torchvision has it)."""

    size: int = 224
    stem: int = 64
    depths: Sequence[int] = (3, 4, 6, 3)
    classes: int = 1000
    batch: int = 1

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: image -> logits."""
        g = Graph("resnet", seed)
        x = g.conv_bn(g.input("image", (self.batch, 3, self.size, self.size)), 3, self.stem, 7, 2, activation="Relu")
        x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        ins = self.stem
        for stage, depth in enumerate(self.depths):
            width = self.stem * 2**stage
            for block in range(depth):
                x = _bottleneck(g, x, ins, width, 2 if stage and not block else 1)
                ins = 4 * width
        x = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
        weights = g.normal((self.classes, ins), 1 / ins**0.5)
        g.output(g.op("Gemm", x, g.weight(weights), g.weight(g.normal((self.classes,), 0.1)), transB=1), "logits")
        return g.model()


def _bottleneck(g: Graph, x: str, ins: int, width: int, stride: int) -> str:
    y = g.conv_bn(x, ins, width, 1, activation="Relu")
    y = g.conv_bn(y, width, width, 3, stride, activation="Relu")
    y = g.conv_bn(y, width, 4 * width, 1, low=0.3, high=0.6)
    if stride > 1 or ins != 4 * width:
        x = g.conv_bn(x, ins, 4 * width, 1, stride)
    return g.op("Relu", g.op("Add", y, x))


def _squeeze_excite(g: Graph, x: str, channels: int, squeezed: int, activation: str, gate: str) -> str:
    pooled = g.conv(g.op("GlobalAveragePool", x), channels, squeezed, 1, activation=activation)
    # The gates are near one half: what is behind them is half as large, which the next weights make good.
    return g.op("Mul", x, g.activation(gate, g.conv(pooled, squeezed, channels, 1)))


@dataclass(frozen=True)
class MobileNetV3:
    """Inverted residuals with hard swish (Howard and others 2019), the large one.

    Attributes:
        blocks: kernel, expanded channels, channels out, squeeze and excite, activation, stride.
    """

    size: int = 224
    stem: int = 16
    blocks: Sequence[tuple[int, int, int, bool, str, int]] = (
        (3, 16, 16, False, "Relu", 1),
        (3, 64, 24, False, "Relu", 2), (3, 72, 24, False, "Relu", 1),
        (5, 72, 40, True, "Relu", 2), (5, 120, 40, True, "Relu", 1), (5, 120, 40, True, "Relu", 1),
        (3, 240, 80, False, "HardSwish", 2), (3, 200, 80, False, "HardSwish", 1),
        (3, 184, 80, False, "HardSwish", 1), (3, 184, 80, False, "HardSwish", 1),
        (3, 480, 112, True, "HardSwish", 1), (3, 672, 112, True, "HardSwish", 1),
        (5, 672, 160, True, "HardSwish", 2), (5, 960, 160, True, "HardSwish", 1), (5, 960, 160, True, "HardSwish", 1),
    )  # fmt: skip
    last: int = 960
    hidden: int = 1280
    classes: int = 1000

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: image -> logits."""
        g = Graph("mobilenet_v3", seed)
        x = g.conv_bn(g.input("image", (1, 3, self.size, self.size)), 3, self.stem, 3, 2, activation="HardSwish")
        ins = self.stem
        for kernel, expanded, outs, gated, activation, stride in self.blocks:
            y = x if expanded == ins else g.conv_bn(x, ins, expanded, 1, activation=activation)
            y = g.conv_bn(y, expanded, expanded, kernel, stride, expanded, activation)
            if gated:
                y = _squeeze_excite(g, y, expanded, _divisible(expanded / 4), "Relu", "HardSigmoid")
            scale = 2.0 if gated else 1.0
            y = g.conv_bn(y, expanded, outs, 1, low=0.5 * scale, high=scale)
            x = g.op("Add", x, y) if stride == 1 and ins == outs else y
            ins = outs
        x = g.op("GlobalAveragePool", g.conv_bn(x, ins, self.last, 1, activation="HardSwish"))
        x = g.linear(g.op("Flatten", x, axis=1), self.last, self.hidden, "HardSwish", gain=2.0)
        g.output(g.linear(x, self.hidden, self.classes), "logits")
        return g.model()


@dataclass(frozen=True)
class EfficientNet:
    """Inverted residuals, all gated (Tan and Le 2019), B0.

    Attributes:
        stages: expansion, kernel, stride, channels out, layers.
    """

    size: int = 224
    stem: int = 32
    stages: Sequence[tuple[int, int, int, int, int]] = (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
    )  # fmt: skip
    head: int = 1280
    classes: int = 1000

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: image -> logits."""
        g = Graph("efficientnet", seed)
        x = g.conv_bn(g.input("image", (1, 3, self.size, self.size)), 3, self.stem, 3, 2, activation="Silu")
        ins = self.stem
        for expansion, kernel, first_stride, outs, layers in self.stages:
            for layer in range(layers):
                stride, wide = first_stride if layer == 0 else 1, expansion * ins
                y = x if expansion == 1 else g.conv_bn(x, ins, wide, 1, activation="Silu")
                y = g.conv_bn(y, wide, wide, kernel, stride, wide, "Silu")
                y = _squeeze_excite(g, y, wide, max(1, ins // 4), "Silu", "Sigmoid")
                y = g.conv_bn(y, wide, outs, 1, low=1.0, high=2.0)
                x = g.op("Add", x, y) if stride == 1 and ins == outs else y
                ins = outs
        x = g.op("GlobalAveragePool", g.conv_bn(x, ins, self.head, 1, activation="Silu"))
        g.output(g.linear(g.op("Flatten", x, axis=1), self.head, self.classes), "logits")
        return g.model()


@dataclass(frozen=True)
class ConvNeXt:
    """Depthwise 7x7 convolutions and channels-last perceptrons (Liu and others 2022), T."""

    size: int = 224
    widths: Sequence[int] = (96, 192, 384, 768)
    depths: Sequence[int] = (3, 3, 9, 3)
    classes: int = 1000

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: image -> logits."""
        g = Graph("convnext", seed)
        x = g.conv(g.input("image", (1, 3, self.size, self.size)), 3, self.widths[0], 4, 4, padding=0)
        x = _channel_norm(g, x, self.widths[0])
        ins = self.widths[0]
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            if stage:
                x = g.conv(_channel_norm(g, x, ins), ins, width, 2, 2, padding=0)
            for _ in range(depth):
                y = g.transpose(g.conv(x, width, width, 7, groups=width), 0, 2, 3, 1)
                y = g.linear(g.layer_norm(y, width, 1e-6), width, 4 * width, "Gelu")
                y = g.op("Mul", g.linear(y, 4 * width, width), g.weight(g.uniform((width,), 0.3, 0.6)))
                x = g.op("Add", x, g.transpose(y, 0, 3, 1, 2))
            ins = width
        x = g.layer_norm(g.op("Flatten", g.op("GlobalAveragePool", x), axis=1), ins, 1e-6)
        g.output(g.linear(x, ins, self.classes), "logits")
        return g.model()


def _channel_norm(g: Graph, x: str, width: int) -> str:
    return g.transpose(g.layer_norm(g.transpose(x, 0, 2, 3, 1), width, 1e-6), 0, 3, 1, 2)


@dataclass(frozen=True)
class ViT:
    """Patches through an encoder (Dosovitskiy and others 2020), B/16."""

    size: int = 224
    patch: int = 16
    encoder: Encoder = BASE
    classes: int = 1000

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: image -> logits."""
        g, width, patches = Graph("vit", seed), self.encoder.width, (self.size // self.patch) ** 2
        x = g.conv(g.input("image", (1, 3, self.size, self.size)), 3, width, self.patch, self.patch, padding=0)
        x = g.transpose(g.reshape(x, 1, width, patches), 0, 2, 1)
        x = g.op("Concat", g.weight(g.normal((1, 1, width), 1.0)), x, axis=1)
        x = g.op("Add", x, g.weight(g.normal((1, patches + 1, width), 0.3)))
        for _ in range(self.encoder.layers):
            x = encoder_layer(g, x, self.encoder, patches + 1)
        x = g.op("Gather", g.layer_norm(x, width, 1e-6), g.constant(0, np.int64), axis=1)
        g.output(g.linear(x, width, self.classes), "logits")
        return g.model()
