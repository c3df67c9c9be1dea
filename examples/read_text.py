#!/usr/bin/env python3
"""Find and read the text on a picture with PP-OCRv4's detection and recognition models, on IREE's kernels.

    python examples/read_text.py picture.png
    python examples/read_text.py --draw "what you see" --draw "is what it reads"

The models are those of the package rapidocr_onnxruntime, or --models names their folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from text_boxes import Box, decode, find_boxes

import iree_migraphx as migraphx
from iree_migraphx.errors import IreeMigraphxError

Array = npt.NDArray[Any]

#: The detector's lengths are multiples of this.
STEP = 32
#: The recogniser's height; its widths are multiples of LINE_WIDTH here, since a kernel is for one width.
LINE_HEIGHT, LINE_WIDTH = 48, 320


@dataclass
class Net:
    """A model with one input and one output, compiled once for each shape."""

    path: Path
    target: str
    programs: dict[tuple[int, ...], migraphx.program] = field(default_factory=dict)

    def __call__(self, x: Array) -> Array:
        """Run it."""
        if x.shape not in self.programs:
            program = migraphx.parse_onnx(str(self.path), map_input_dims={"x": list(x.shape)})
            program.compile(migraphx.get_target(self.target))
            self.programs[x.shape] = program
        return np.array(self.programs[x.shape].run({"x": np.ascontiguousarray(x)})[0])


class Reader:
    """Reads pictures.

    Args:
        models: the folder with both ONNX files.
        target: MIGraphX's, "ref" or "gpu".
        longest: pixels of the longer side that the detector sees.
    """

    def __init__(self, models: Path, target: str = "ref", longest: int = 640) -> None:
        self.longest = longest
        detector, recogniser = (_only(models, f"*{part}*.onnx") for part in ("_det_", "_rec_"))
        self._detect, self._recognise = Net(detector, target), Net(recogniser, target)
        metadata = {entry.key: entry.value for entry in onnx.load(recogniser).metadata_props}
        self._letters = [*metadata["character"].splitlines(), " "]

    def read(self, picture: Image.Image) -> list[tuple[Box, str, float]]:
        """Boxes in the order in which they are read, with their text and how sure the recogniser is."""
        picture = picture.convert("RGB")
        found = []
        for box in self.find(picture):
            text, sure = self.read_line(_cut(picture, box))
            if text:
                found.append((box, text, sure))
        return found

    def find(self, picture: Image.Image) -> list[Box]:
        """Boxes around text, in the picture's pixels."""
        scale = min(1.0, self.longest / max(picture.size))
        width, height = (max(STEP, round(length * scale)) for length in picture.size)
        # What is added below and at the right has no edge that could look like a letter's.
        canvas = np.zeros((-(-height // STEP) * STEP, -(-width // STEP) * STEP, 3), np.uint8)
        canvas[:height, :width] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        canvas[height:], canvas[:, width:] = canvas[height - 1], canvas[:, width - 1 : width]
        scores = self._detect(_planes(canvas))[0, 0, :height, :width]
        factor = np.array(picture.size) / (width, height)
        return [Box(box.corners * factor, box.score) for box in find_boxes(scores)]

    def read_line(self, line: Image.Image) -> tuple[str, float]:
        """The text of a picture of one line."""
        width = max(1, round(LINE_HEIGHT * line.width / line.height))
        small = np.asarray(line.resize((width, LINE_HEIGHT), Image.Resampling.BILINEAR))
        values = np.zeros((1, 3, LINE_HEIGHT, -(-width // LINE_WIDTH) * LINE_WIDTH), np.float32)
        values[..., :width] = _planes(small)
        return decode(self._recognise(values)[0], self._letters)


def _planes(picture: Array) -> Array:
    """HxWx3 bytes, red first, as the models take them: 1x3xHxW between -1 and 1, blue first."""
    return (picture[..., ::-1].transpose(2, 0, 1)[None] / 127.5 - 1).astype(np.float32)


def _cut(picture: Image.Image, box: Box) -> Image.Image:
    """What is in a box, turned upright."""
    width, height = (max(1, round(length)) for length in box.size)
    top_left, top_right, bottom_right, bottom_left = box.corners
    corners = np.concatenate([top_left, bottom_left, bottom_right, top_right]).tolist()
    return picture.transform((width, height), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)


def draw(lines: Sequence[str], size: int = 40) -> Image.Image:
    """A picture of lines of text, black on white."""
    font = ImageFont.load_default(size)
    width = max(int(font.getlength(line)) for line in lines) + 2 * size
    picture = Image.new("RGB", (width, 2 * size * len(lines) + size), "white")
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((size, size // 2 + 2 * size * number), line, "black", font)
    return picture


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"there is no {pattern} in {folder}; pip install --no-deps rapidocr_onnxruntime")
    return found[0]


def _models() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("no models; pip install --no-deps rapidocr_onnxruntime, or name a folder with --models")
    return Path(spec.submodule_search_locations[0], "models")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 where nothing is read, 2 for a wrong argument or picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("picture", nargs="?", type=Path, help="a file that Pillow can read")
    given.add_argument("--draw", action="append", metavar="TEXT", help="draw a line instead; may be repeated")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="with *_det_*.onnx and *_rec_*.onnx")
    parser.add_argument("--target", default="ref", help="MIGraphX's target: ref (default) or gpu")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the picture with its boxes")
    arguments = parser.parse_args(argv)
    try:
        picture = draw(arguments.draw) if arguments.draw else Image.open(arguments.picture).convert("RGB")
        reader = Reader(arguments.models or _models(), arguments.target)
        found = reader.read(picture)
        if arguments.save:
            pen = ImageDraw.Draw(picture)
            for box, _, _ in found:
                pen.polygon([tuple(corner) for corner in box.corners.tolist()], outline="red", width=2)
            picture.save(arguments.save)
    except (OSError, UnidentifiedImageError, IreeMigraphxError) as error:
        print(f"read_text.py: {error}", file=sys.stderr)
        return 2
    for _, text, sure in found:
        print(f"{sure:.2f}  {text}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
