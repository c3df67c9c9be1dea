"""Encoders and a decoder block with a key-value cache, as their exporters write them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from .graph import Graph


@dataclass(frozen=True)
class Encoder:
    """Lengths of a transformer."""

    width: int = 768
    heads: int = 12
    layers: int = 12
    hidden: int = 3072

    @property
    def head(self) -> int:
        """Elements of a head."""
        return self.width // self.heads


BASE = Encoder()


def encoder_layer(g: Graph, x: str, of: Encoder, tokens: int) -> str:
    """A layer of ViT's: norms in front, query, key and value as one product that is taken apart."""
    y = g.linear(g.layer_norm(x, of.width, 1e-6), of.width, 3 * of.width)
    y = g.transpose(g.reshape(y, 1, tokens, 3, of.heads, of.head), 2, 0, 3, 1, 4)
    query, key, value = (g.op("Gather", y, g.constant(which, np.int64), axis=0) for which in range(3))
    scaled = g.op("Mul", query, g.constant(of.head**-0.5))
    scores = g.op("Softmax", g.op("MatMul", scaled, g.transpose(key, 0, 1, 3, 2)), axis=-1)
    y = g.reshape(g.transpose(g.op("MatMul", scores, value), 0, 2, 1, 3), 1, tokens, of.width)
    x = g.op("Add", x, g.linear(y, of.width, of.width, gain=0.5))
    y = g.linear(g.layer_norm(x, of.width, 1e-6), of.width, of.hidden, "Gelu")
    return g.op("Add", x, g.linear(y, of.hidden, of.width, gain=0.5))


@dataclass(frozen=True)
class Bert:
    """Token ids to hidden states and a pooled one (Devlin and others 2018), base, as exported at opset 14."""

    tokens: int = 128
    vocabulary: int = 30522
    encoder: Encoder = BASE
    batch: int = 1

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: input_ids, attention_mask, token_type_ids -> hidden, pooled."""
        g, of, lens = Graph("bert", seed, 14), self.encoder, (self.batch, self.tokens)
        ids, mask, types = (
            g.input(name, lens, TensorProto.INT64) for name in ("input_ids", "attention_mask", "token_type_ids")
        )
        words = g.op("Gather", g.weight(g.normal((self.vocabulary, of.width), 1.0)), ids, axis=0)
        kinds = g.op("Gather", g.weight(g.normal((2, of.width), 0.3)), types, axis=0)
        places = g.weight(g.normal((1, self.tokens, of.width), 0.3))
        x = g.op("Add", g.op("Add", words, kinds), places)
        x = g.layer_norm(x, of.width, 1e-12, one_node=False)
        bias = g.op("Cast", g.op("Unsqueeze", mask, g.ints(1, 2)), to=TensorProto.FLOAT)
        bias = g.op("Mul", g.op("Sub", g.constant(1.0), bias), g.constant(-10000.0))
        for _ in range(of.layers):
            x = _bert_layer(g, x, of, bias, self.batch, self.tokens)
        pooled = g.linear(g.op("Gather", x, g.constant(0, np.int64), axis=1), of.width, of.width, "Tanh")
        g.output(x, "hidden")
        g.output(pooled, "pooled")
        return g.model()


def _bert_layer(g: Graph, x: str, of: Encoder, bias: str, batch: int, tokens: int) -> str:
    def heads(y: str, *axes: int) -> str:
        return g.transpose(g.reshape(y, batch, tokens, of.heads, of.head), *axes)

    query, key = heads(g.linear(x, of.width, of.width), 0, 2, 1, 3), heads(g.linear(x, of.width, of.width), 0, 2, 3, 1)
    value = heads(g.linear(x, of.width, of.width), 0, 2, 1, 3)
    scores = g.op("Div", g.op("MatMul", query, key), g.constant(of.head**0.5))
    scores = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
    y = g.reshape(g.transpose(g.op("MatMul", scores, value), 0, 2, 1, 3), batch, tokens, of.width)
    x = g.layer_norm(g.op("Add", g.linear(y, of.width, of.width), x), of.width, 1e-12, one_node=False)
    y = g.linear(g.linear(x, of.width, of.hidden, "Gelu"), of.hidden, of.width)
    return g.layer_norm(g.op("Add", y, x), of.width, 1e-12, one_node=False)


@dataclass(frozen=True)
class Gpt2Block:
    """One block of GPT-2 (Radford and others 2019) that goes on from a key-value cache.

    Attributes:
        past: tokens in the cache.
        new: tokens that come in.
    """

    past: int = 120
    new: int = 8
    encoder: Encoder = BASE

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: hidden, past_key, past_value -> next, present_key, present_value."""
        g, of = Graph("gpt2_block", seed), self.encoder
        x = g.input("hidden", (1, self.new, of.width))
        cache = [g.input(f"past_{which}", (1, of.heads, self.past, of.head)) for which in ("key", "value")]
        y = g.linear(g.layer_norm(x, of.width), of.width, 3 * of.width)
        parts = g.ops("Split", 3, y, g.ints(*[of.width] * 3), axis=2)
        query, key, value = (g.transpose(g.reshape(part, 1, self.new, of.heads, of.head), 0, 2, 1, 3) for part in parts)
        key, value = (g.op("Concat", past, now, axis=2) for past, now in zip(cache, (key, value), strict=True))
        scores = g.op("Div", g.op("MatMul", query, g.transpose(key, 0, 1, 3, 2)), g.constant(of.head**0.5))
        total = self.past + self.new
        allowed = np.tril(np.ones((total, total), bool))[None, None, self.past :]
        scores = g.op("Where", g.constant(allowed, bool), scores, g.constant(np.finfo(np.float32).min))
        y = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
        y = g.reshape(g.transpose(y, 0, 2, 1, 3), 1, self.new, of.width)
        x = g.op("Add", x, g.linear(y, of.width, of.width))
        y = g.linear(g.layer_norm(x, of.width), of.width, of.hidden)
        x = g.op("Add", x, g.linear(g.activation("GeluTanh", y), of.hidden, of.width))
        for name, of_name in (("next", x), ("present_key", key), ("present_value", value)):
            g.output(of_name, name)
        return g.model()
