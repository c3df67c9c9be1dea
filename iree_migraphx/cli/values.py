"""Values for a run's inputs: zeros, ones, files, and what is made up by a seed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.cli.parser import natural
from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import InputError, MigraphxError, OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import shape

Values = dict[str, npt.NDArray[Any]]


def add_values(parser: argparse.ArgumentParser) -> None:
    """Add what migraphx-driver has for inputs, and the seed of those that are made up."""
    group = parser.add_argument_group("inputs")
    for number in (0, 1):
        group.add_argument(
            f"--fill{number}", action="extend", nargs="+", default=[], metavar="NAME", help=f"inputs full of {number}s"
        )
    group.add_argument(
        "--load-arg",
        action="extend",
        nargs="+",
        default=[],
        metavar="WORD",
        help='an input from a file: "@name" file.npy, or a value that MIGraphX saved; may be repeated',
    )
    group.add_argument("--seed", type=natural, default=0, metavar="N", help="for all other inputs (default: 0)")


def check_values(arguments: argparse.Namespace, shapes: Mapping[str, shape]) -> Values:
    """The inputs that the command line gives, checked against the program before any work.

    Raises:
        OptionError: no such input, or an input that is given twice.
        InputError: a file that can't be read, or has another shape or type.
    """
    given: Values = {}
    for value in (0, 1):
        for name in getattr(arguments, f"fill{value}"):
            known = _require(name, shapes, given)
            given[name] = np.full(_lens(name, known), value, known.dtype)
    return load_values(arguments.load_arg, shapes, given)


def load_values(
    words: Iterable[str], shapes: Mapping[str, shape], given: Mapping[str, npt.NDArray[Any]] | None = None
) -> Values:
    """Inputs from files, "@name" and the file in turn, beside those that are given already.

    Raises:
        OptionError: no such input, or one that is given twice.
        InputError: a file that can't be read, or has another shape or type.
    """
    from iree_migraphx.binding.inputs import convert

    values: Values = dict(given or {})
    for name, path in _files(words):
        known = _require(name, shapes, values)
        values[name] = np.asarray(convert(name, known, _read(name, path)))
    return values


def all_values(given: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, shape], seed: int) -> Values:
    """A value for every input: the given ones, and one made up by the seed for each other."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, known in shapes.items():
        # Made in any case, so that a value that is given does not change those of the other inputs.
        made = generate(known, rng, _lens(name, known))
        values[name] = given.get(name, made)
    return values


def generate(of: shape, rng: np.random.Generator, lens: tuple[int, ...] | None = None) -> npt.NDArray[Any]:
    """A value for a parameter, by its type and form.

    Floats with 1 or 3 channels are a picture with something like text on it: on noise a detector finds nothing, its
    results are all but zero, and comparing them tells little. Other floats are uniform between -1 and 1. Integers are
    0 or 1, so that they are valid as indices, masks and token ids.
    """
    lens, dtype = tuple(of.lens()) if lens is None else lens, of.dtype
    if dtype.kind in "biu":
        return rng.integers(0, 2, lens).astype(dtype)
    if len(lens) == 4 and lens[1] in (1, 3):
        batch = [np.broadcast_to(_picture(rng, *lens[2:]), lens[1:]) for _ in range(lens[0])]
        return np.stack(batch).astype(dtype)
    if len(lens) == 4 and lens[3] in (1, 3):
        batch = [np.broadcast_to(_picture(rng, *lens[1:3])[..., None], lens[1:]) for _ in range(lens[0])]
        return np.stack(batch).astype(dtype)
    return rng.uniform(-1, 1, lens).astype(dtype)


def _picture(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    """Lines of dark letters, 5x7 points in cells of 6x14, on a soft background; between -1 and 1."""
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slope_down, slope_across, phase = rng.uniform(0.3, 1.0, 3)
    background = 0.75 + 0.2 * np.sin(2 * np.pi * (down * slope_down + across * slope_across + phase))
    point = max(1, min(height, width) // 160)
    lines, letters = -(-height // (14 * point)), -(-width // (6 * point))
    cells = np.zeros((lines, 14, letters, 6))
    words = rng.random((lines, 1, letters, 1)) < 0.8
    cells[:, 3:10, :, :5] = (rng.random((lines, 7, letters, 5)) < 0.5) & words
    ink = np.kron(cells.reshape(lines * 14, letters * 6), np.ones((point, point)))[:height, :width]
    picture: npt.NDArray[np.float64] = 2 * background * (1 - 0.85 * ink) - 1
    return picture


def _lens(name: str, known: shape) -> tuple[int, ...]:
    if not known.dynamic():
        return tuple(known.lens())
    # migraphx-driver takes --batch for every dimension that is not fixed; the least length is always allowed.
    return tuple(dimension.min for dimension in known.dyn_dims())


def _require(name: str, shapes: Mapping[str, shape], given: Mapping[str, object]) -> shape:
    if name not in shapes:
        hint = did_you_mean(name, shapes) or f"; it has {', '.join(shapes) or 'none'}"
        raise OptionError(f"the model has no input {name!r}{hint}")
    if name in given:
        raise OptionError(f"the input {name!r} is given twice")
    return shapes[name]


def _files(words: Iterable[str]) -> Iterable[tuple[str, Path]]:
    name = ""
    for word in words:
        if word.startswith("@") and len(word) > 1 and not name:
            name = word[1:]
        elif name:
            yield name, Path(word)
            name = ""
        else:
            raise OptionError(f'--load-arg has {word!r}; write it like "@name" file.npy')
    if name:
        raise OptionError(f"--load-arg names no file for {name!r}")


def _read(name: str, path: Path) -> Any:
    try:
        with open(path, "rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                from iree_migraphx.binding.arguments import load_argument

                return load_argument(os.fspath(path))
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except OSError as error:
        raise InputError(f"can't read {path}, the value of {name}: {error.strerror}") from error
    except (ValueError, EOFError, MigraphxError) as error:
        raise InputError(f"{path}, the value of {name}, is neither a .npy file nor MIGraphX's: {error}") from error
