"""A tagger of sequences: embeddings through LSTM and GRU layers."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto

from .graph import Graph


@dataclass(frozen=True)
class Tagger:
    """A bidirectional LSTM, a GRU behind it, and a score for each token and tag."""

    tokens: int = 32
    vocabulary: int = 10000
    embedding: int = 256
    hidden: int = 256
    tags: int = 17

    def build(self, seed: int = 0) -> onnx.ModelProto:
        """The model: ids -> scores (tokens x batch x tags)."""
        g = Graph("tagger", seed)
        ids = g.input("ids", (self.tokens, 1), TensorProto.INT64)
        x = g.op("Gather", g.weight(g.normal((self.vocabulary, self.embedding), 1.0)), ids, axis=0)
        x = self._layer(g, "LSTM", x, self.embedding, 4, 2)
        x = self._layer(g, "GRU", x, 2 * self.hidden, 3, 1, linear_before_reset=1)
        g.output(g.linear(x, self.hidden, self.tags), "scores")
        return g.model()

    def _layer(self, g: Graph, kind: str, x: str, ins: int, gates: int, directions: int, **attributes: int) -> str:
        rows = gates * self.hidden
        weights = g.weight(g.normal((directions, rows, ins), ins**-0.5))
        recurrent = g.weight(g.normal((directions, rows, self.hidden), self.hidden**-0.5))
        bias = g.weight(g.normal((directions, 2 * rows), 0.1))
        direction = "bidirectional" if directions == 2 else "forward"
        y = g.op(kind, x, weights, recurrent, bias, hidden_size=self.hidden, direction=direction, **attributes)
        y = g.transpose(y, 0, 2, 1, 3)
        return g.reshape(y, self.tokens, 1, directions * self.hidden)
