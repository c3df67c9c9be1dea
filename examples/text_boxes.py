"""From a detector's map of where text is to boxes around it, and from a recogniser's scores to letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Box:
    """A rectangle around a line of text.

    Attributes:
        corners: 4x2, x and y in pixels: top left, top right, bottom right, bottom left as the text is read.
        score: the mean of the map inside.
    """

    corners: Array
    score: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        top_left, top_right, _, bottom_left = self.corners
        return float(np.hypot(*(top_right - top_left))), float(np.hypot(*(bottom_left - top_left)))


def find_boxes(scores: Array, threshold: float = 0.3, least: float = 0.5, grow: float = 1.6) -> list[Box]:
    """Boxes around text, in the order in which it is read.

    Args:
        scores: HxW, the detector's output: how surely a pixel belongs to the middle of a line of text.
        threshold: pixels above it belong to text.
        least: the score that a box needs.
        grow: the detector is trained on lines that were shrunk; a box grows by its area * `grow` / its perimeter
            (post-processing of DBNet, Liao and others 2020).
    """
    labels, _ = ndimage.label(ndimage.binary_dilation(scores > threshold, np.ones((2, 2))))
    boxes = []
    for label, window in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[window] == label
        score = float(scores[window][inside].mean())
        points = np.argwhere(inside)[:, ::-1] + [window[1].start, window[0].start]
        width, height = np.ptp(points, axis=0)
        if score < least or min(width, height) < 3:
            continue
        boxes.append(Box(_grown(smallest_rectangle(points), grow), score))
    return in_reading_order(boxes)


def smallest_rectangle(points: Array) -> Array:
    """The rectangle of least area around points (Nx2): one of its sides lies on a side of their convex hull."""
    hull = points[spatial.ConvexHull(points).vertices].astype(float)
    sides = np.roll(hull, -1, axis=0) - hull
    best, least = hull[:4], np.inf
    for angle in np.unique(np.arctan2(sides[:, 1], sides[:, 0]) % (np.pi / 2)):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turned = hull @ turn.T
        (left, top), (right, bottom) = turned.min(axis=0), turned.max(axis=0)
        if (area := (right - left) * (bottom - top)) < least - 1e-9:
            least, best = area, np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ turn
    return _from_top_left(best)


def _from_top_left(corners: Array) -> Array:
    """The same corners clockwise, the first one at the left end of the upper long side."""
    start = int(np.argmin(corners.sum(axis=1)))
    turned = np.roll(corners, -start, axis=0)
    across, down = turned[1] - turned[0], turned[3] - turned[0]
    # A line of text is wider than high; upright ones are read from top to bottom.
    return np.roll(turned, 1, axis=0) if np.hypot(*down) > 1.5 * np.hypot(*across) else turned


def _grown(corners: Array, grow: float) -> Array:
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    width, height = np.hypot(*across), np.hypot(*down)
    distance = width * height * grow / (2 * (width + height))
    right, below = across / width * distance, down / height * distance
    return corners + np.array([-right - below, right - below, right + below, -right + below])


def in_reading_order(boxes: Sequence[Box]) -> list[Box]:
    """By lines from the top, and from left to right in a line: boxes whose middles are near in height."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda each: each.corners[:, 1].mean()):
        middle = box.corners[:, 1].mean()
        if rows and abs(rows[-1][-1].corners[:, 1].mean() - middle) < box.size[1] / 2:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda each: each.corners[:, 0].mean())]


def decode(scores: Array, letters: Sequence[str]) -> tuple[str, float]:
    """The text of a recogniser's output, and how sure it is: repeated letters count once, 0 is between letters (CTC).

    Args:
        scores: steps x (letters + 1), probabilities.
        letters: those of the classes 1, 2, …
    """
    best, sure = scores.argmax(axis=1), scores.max(axis=1)
    read = (best != 0) & (best != np.roll(best, 1) | (np.arange(len(best)) == 0))
    if not read.any():
        return "", 0.0
    return "".join(letters[index - 1] for index in best[read]), float(sure[read].mean())
