#!/usr/bin/env python3
"""Say what is on a picture with an image classifier (ONNX, one input of NCHW) on IREE's kernels.

    python examples/classify.py model.onnx picture.jpg --labels labels.txt

The picture is scaled to cover the model's lengths, cut to them in the middle, and normalised as for ImageNet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

import iree_migraphx as migraphx
from iree_migraphx.cli.lengths import read_face
from iree_migraphx.errors import InputError, IreeMigraphxError

Array = npt.NDArray[Any]

#: Mean and deviation of ImageNet's pictures between 0 and 1: red, green, blue.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def prepare(picture: Image.Image, size: tuple[int, int], mean: Sequence[float], deviation: Sequence[float]) -> Array:
    """A picture as 1x3xHxW floats; `size` is height and width."""
    fitted = ImageOps.fit(picture.convert("RGB"), size[::-1], Image.Resampling.BILINEAR)
    values = (np.asarray(fitted) / 255.0 - mean) / deviation
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


def probabilities(scores: Array) -> Array:
    """Scores of classes as probabilities: as they are where they are some already, else their softmax."""
    if scores.min() >= 0 and np.isclose(scores.sum(), 1.0, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def top(chances: Array, count: int) -> list[int]:
    """The likeliest classes, the likeliest first; of equal ones the one with the smaller number."""
    return [int(index) for index in np.argsort(-chances, kind="stable")[:count]]


def _image_input(model: Path, size: Sequence[int] | None) -> tuple[str, tuple[int, int]]:
    """The name of the input, and the height and width to give it.

    Raises:
        InputError: the model is no image classifier, or lengths are missing.
    """
    inputs = read_face(model).inputs
    if len(inputs) != 1:
        raise InputError(f"{model} has {len(inputs)} inputs; an image classifier has one")
    ((name, lens),) = inputs.items()
    if lens is None or len(lens) != 4 or (isinstance(lens[1], int) and lens[1] != 3):
        raise InputError(f"the input {name} has the lengths {lens}; an image's are batch, 3, height, width")
    height, width = size or lens[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        raise InputError(f"the model leaves height and width of {name} open; give --size HEIGHT WIDTH")
    return name, (height, width)


def _labels(path: Path | None, classes: int) -> list[str]:
    if path is None:
        return [f"class {index}" for index in range(classes)]
    labels = path.read_text(encoding="utf-8").splitlines()
    if len(labels) != classes:
        raise InputError(f"{path} has {len(labels)} lines, but the model tells {classes} classes apart")
    return labels


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 where MIGraphX can't run the model, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("picture", type=Path, nargs="+", help="files that Pillow can read")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="one label a line (default: the classes' numbers)")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="where the model leaves them open"
    )
    parser.add_argument("--mean", type=float, nargs=3, default=MEAN, help="of red, green, blue (default: ImageNet's)")
    parser.add_argument("--deviation", type=float, nargs=3, default=DEVIATION, help="the same")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to print (default: 5)")
    parser.add_argument("--target", default="ref", help="MIGraphX's target: ref (default) or gpu")
    given = parser.parse_args(argv)
    try:
        name, size = _image_input(given.model, given.size)
        pictures = [prepare(Image.open(path), size, given.mean, given.deviation) for path in given.picture]
        program = migraphx.parse_onnx(str(given.model), map_input_dims={name: [1, 3, *size]})
        program.compile(migraphx.get_target(given.target))
        labels: list[str] = []
        for path, values in zip(given.picture, pictures, strict=True):
            chances = probabilities(np.asarray(program.run({name: values})[0]).ravel())
            labels = labels or _labels(given.labels, chances.size)
            print(f"{path}:")
            for index in top(chances, given.top):
                print(f"  {chances[index]:7.2%}  {labels[index]}")
    except (InputError, OSError, UnidentifiedImageError) as error:
        print(f"classify.py: {error}", file=sys.stderr)
        return 2
    except IreeMigraphxError as error:
        print(f"classify.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
