"""The model of a command line: migraphx-driver's flags for it (src/driver/main.cpp, rocm-7.1.1), and reading it."""

from __future__ import annotations

import argparse
import json
import mmap
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.parser import positive
from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import InputError, OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import dynamic_dimension, program

_SUFFIXES = {".onnx": "onnx", ".pb": "tf", ".json": "json"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was read.

    Attributes:
        inputs: lengths of the inputs of an .onnx file as it has them, None for each that it leaves open.
        batch: what --batch says.
        given: names of the inputs whose lengths --input-dim or --dyn-input-dim gives.
    """

    path: Path
    program: program
    kind: str
    batch: int = 1
    inputs: Mapping[str, tuple[int | None, ...] | None] = field(default_factory=dict)
    given: frozenset[str] = frozenset()

    @property
    def is_compiled(self) -> bool:
        """It is a program that has been compiled already."""
        return self.program.is_compiled()

    def notes(self) -> list[str]:
        """What was made of lengths that the model leaves open and nobody gave."""
        shapes = self.program.get_parameter_shapes()
        notes = []
        for name, lens in self.inputs.items():
            if (lens is None or None in lens) and name not in self.given and name in shapes:
                if shapes[name].dynamic():
                    continue
                taken = " ".join(map(str, shapes[name].lens()))
                notes.append(
                    f"{name} has dimensions that the model leaves open; each was taken as {self.batch}: {taken}. "
                    f'Set them with --input-dim "@{name} {taken}", with lengths of yours'
                )
        return notes


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model and what says how it is to be read."""
    group = parser.add_argument_group("model")
    group.add_argument("model", type=Path, metavar="FILE", help="an .onnx file, a saved program (.mxr), a frozen .pb")
    kinds = group.add_mutually_exclusive_group()
    for kind, text in (
        ("onnx", "read it as ONNX (default for .onnx)"),
        ("tf", "read it as a frozen TensorFlow graph (default for .pb)"),
        ("migraphx", "read it as a program that MIGraphX saved (default for all others)"),
        ("migraphx-json", "read it as such a program in JSON (default for .json)"),
    ):
        value = kind.removeprefix("migraphx-")
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=value, help=text)
    group.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="length of each dimension left open (default: 1)"
    )
    add_input_dim(group)
    group.add_argument(
        "--dyn-input-dim",
        action="extend",
        nargs="+",
        default=[],
        metavar="DIM",
        help='ranges of lengths of an input: "@name" "[{min:1,max:64,optimals:[1,2]},3,224,224]"; may be repeated. '
        "Programs with dynamic shapes are left to MIGraphX",
    )
    group.add_argument(
        "--default-dyn-dim", metavar="RANGE", help='range of each dimension left open: "{min:1,max:64,optimals:[1,2]}"'
    )
    layouts = group.add_mutually_exclusive_group()
    layouts.add_argument(
        "--nhwc", dest="nhwc", action="store_true", default=True, help="a TensorFlow graph is NHWC (default)"
    )
    layouts.add_argument("--nchw", dest="nhwc", action="store_false", help="a TensorFlow graph is NCHW")
    group.add_argument(
        "--output-names", action="extend", nargs="+", default=[], metavar="NAME", help="a TensorFlow graph's outputs"
    )


def read_model(arguments: argparse.Namespace) -> Model:
    """Read the model that the command line names.

    Raises:
        InputError: there is no such file, or it is no model of its kind.
        OptionError: lengths in another form than `--input-dim` takes, or that do not fit the model.
        MigraphxError: MIGraphX can't read it.
    """
    path: Path = arguments.model
    kind = arguments.kind or _SUFFIXES.get(path.suffix, "migraphx")
    _require_file(path)
    dims = parse_dims(arguments.input_dim)
    ranges = _parse_ranges(arguments.dyn_input_dim)
    inputs: Mapping[str, tuple[int | None, ...] | None] = {}
    if kind == "onnx":
        inputs = _onnx_inputs(path)
        check_dims(dims, inputs)
        for name in ranges:
            _require_input(name, inputs)
    elif kind != "tf" and (dims or ranges):
        raise OptionError(f"--input-dim is for .onnx and .pb files: the lengths of {path} are fixed")
    given = frozenset(dims) | frozenset(ranges)
    return Model(path, _parse(path, kind, arguments, dims, ranges), kind, arguments.batch, inputs, given)


def add_input_dim(parser: argparse._ActionsContainer) -> None:
    """Add the option for lengths of inputs, which `parse_dims` reads."""
    parser.add_argument(
        "--input-dim",
        action="extend",
        nargs="+",
        default=[],
        metavar="DIM",
        help='lengths of an input: "@name 1 3 224 224", in one word or several; may be repeated',
    )


def parse_dims(words: Iterable[str]) -> dict[str, list[int]]:
    """Lengths by input, from "@name 1 3 224 224" in one word or several.

    Raises:
        OptionError: not of that form.
    """
    dims: dict[str, list[int]] = {}
    name = ""
    for word in " ".join(words).split():
        if word.startswith("@") and len(word) > 1:
            name = word[1:]
            dims[name] = []
        elif name and word.isascii() and word.isdigit() and int(word) > 0:
            dims[name].append(int(word))
        else:
            raise OptionError(
                f'--input-dim has {word!r}, which is not of the form "@name 1 3 224 224", with lengths above 0'
            )
    return dims


def check_dims(dims: Mapping[str, list[int]], inputs: Mapping[str, tuple[int | None, ...] | None]) -> None:
    """See that lengths fit an ONNX model: MIGraphX ignores a wrong name, and may end the process at a wrong rank.

    Raises:
        OptionError: an input that the model does not have, another rank, or another length than the model fixes.
    """
    for name, lengths in dims.items():
        lens = _require_input(name, inputs)
        if lens is None:
            continue
        if len(lens) != len(lengths) or any(
            own not in (None, length) for own, length in zip(lens, lengths, strict=True)
        ):
            wanted = " ".join("?" if length is None else str(length) for length in lens)
            raise OptionError(f"--input-dim gives {name} the lengths {lengths}, but the model says @{name} {wanted}")


def _require_input(name: str, inputs: Mapping[str, tuple[int | None, ...] | None]) -> tuple[int | None, ...] | None:
    if name not in inputs:
        hint = did_you_mean(name, inputs) or f"; it has {', '.join(inputs) or 'none'}"
        raise OptionError(f"the model has no input {name!r}{hint}")
    return inputs[name]


def _parse_ranges(words: Iterable[str]) -> dict[str, list[dynamic_dimension]]:
    ranges: dict[str, list[dynamic_dimension]] = {}
    name = ""
    for word in words:
        if word.startswith("@") and len(word) > 1:
            name = word[1:]
        elif name:
            value = _relaxed_json(word)
            ranges[name] = [_range(each, word) for each in (value if isinstance(value, list) else [value])]
        else:
            raise OptionError(f'--dyn-input-dim has {word!r}; write it like "@name" "[{{min:1,max:64}},3,224,224]"')
    return ranges


def _relaxed_json(text: str) -> Any:
    """JSON whose keys need no quotes, as MIGraphX reads it (convert_to_json in src/convert_to_json.cpp)."""
    try:
        return json.loads(re.sub(r"([{,]\s*)([A-Za-z_]\w*)\s*:", r'\1"\2":', text))
    except ValueError as error:
        raise OptionError(f"{text!r} is not of the form {{min:1,max:64,optimals:[1,2]}}: {error}") from error


def _range(value: Any, text: str) -> dynamic_dimension:
    from iree_migraphx.binding import dynamic_dimension

    if isinstance(value, int) and value > 0:
        return dynamic_dimension(value, value)
    if isinstance(value, dict) and {"min", "max"} <= value.keys() <= {"min", "max", "optimals"}:
        return dynamic_dimension(value["min"], value["max"], set(value.get("optimals", ())))
    raise OptionError(f"{text!r} has {value!r}, which is neither a length nor {{min:1,max:64,optimals:[1,2]}}")


def _require_file(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError(f"the model {path} is empty")
    except OSError as error:
        raise InputError(f"can't read the model {path}: {error.strerror}") from error


def _onnx_inputs(path: Path) -> dict[str, tuple[int | None, ...] | None]:
    from iree_migraphx.binding.onnx_model import model_inputs

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        try:
            return model_inputs(view)
        finally:
            view.release()


def _parse(
    path: Path,
    kind: str,
    arguments: argparse.Namespace,
    dims: Mapping[str, list[int]],
    ranges: Mapping[str, list[dynamic_dimension]],
) -> program:
    from iree_migraphx import binding

    if kind == "onnx":
        default = arguments.default_dyn_dim
        return binding.parse_onnx(
            path,
            default_dim_value=0 if default else arguments.batch,
            default_dyn_dim_value=_range(_relaxed_json(default), default) if default else None,
            map_input_dims=dims,
            map_dyn_input_dims=ranges,
        )
    if kind == "tf":
        return binding.parse_tf(path, arguments.nhwc, arguments.batch, dims, arguments.output_names)
    return binding.load(path, "json" if kind == "json" else "msgpack")
