"""The model of a command line: migraphx-driver's flags for it (src/driver/main.cpp, rocm-7.1.1), and reading it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from iree_migraphx.cli.lengths import (
    check_dims,
    is_fixed,
    is_open,
    lengths_by_name,
    parse_dims,
    parse_params,
    parse_range,
    parse_ranges,
    read_face,
    require_file,
    require_input,
)
from iree_migraphx.cli.parser import natural, positive
from iree_migraphx.errors import OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import dynamic_dimension, program
    from iree_migraphx.binding.onnx_model import Lengths

_SUFFIXES = {".onnx": "onnx", ".pb": "tf", ".json": "json"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was read.

    Attributes:
        inputs: lengths of the inputs of an .onnx file as it has them.
        batch: what --batch says.
        given: names of the inputs whose lengths --input-dim, --dyn-input-dim or --dim-param gives.
    """

    path: Path
    program: program
    kind: str
    batch: int = 1
    inputs: Mapping[str, Lengths] = field(default_factory=dict)
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
            if is_open(lens) and name not in self.given and name in shapes:
                if shapes[name].dynamic():
                    continue
                taken = " ".join(map(str, shapes[name].lens()))
                notes.append(
                    f"{name} has dimensions that the model leaves open; each was taken as {self.batch}: {taken}. "
                    f'Set them with --input-dim "@{name} {taken}", with lengths of yours'
                )
        return notes


def add_model(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Add the model and what says how it is to be read; `also`: what else the command takes for a model."""
    group = parser.add_argument_group("model")
    files = f"an .onnx file, a saved program (.mxr), a frozen .pb{also}"
    group.add_argument("model", type=Path, metavar="FILE", help=files)
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
    group.add_argument(
        "--input-dim",
        action="extend",
        nargs="+",
        default=[],
        metavar="DIM",
        help='lengths of an input: "@name 1 3 224 224", in one word or several; may be repeated',
    )
    group.add_argument(
        "--dim-param",
        action="extend",
        nargs="+",
        default=[],
        metavar="DIM",
        help='length, or range of lengths, of every dimension that an .onnx file has a name for: "@name" 8, "@name" '
        '"{min:1,max:64}"; may be repeated',
    )
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
    group.add_argument(
        "--trim",
        "-t",
        type=natural,
        default=0,
        metavar="N",
        help="leave out the last N instructions, the return is one",
    )
    group.add_argument(
        "--trim-size",
        "-s",
        type=natural,
        default=0,
        metavar="N",
        help="and keep only the N before them; what they read becomes inputs: x0, x1, …",
    )


#: Quantisations that need nothing but the model.
HALF = {"fp16": "compute in half precision", "bf16": "compute in bfloat16"}


def add_half(parser: argparse._ActionsContainer) -> None:
    """Add the quantisations that need no values for the inputs."""
    for name, text in HALF.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)


def in_half(model: program, arguments: argparse.Namespace) -> program:
    """The program in the type that the command line asks for; it is changed."""
    from iree_migraphx import binding

    if arguments.fp16:
        binding.quantize_fp16(model)
    if arguments.bf16:
        binding.quantize_bf16(model)
    return model


def read_model(arguments: argparse.Namespace) -> Model:
    """Read the model that the command line names.

    Raises:
        InputError: there is no such file, or it is no model of its kind.
        OptionError: lengths in another form than `--input-dim` takes, or that do not fit the model.
        MigraphxError: MIGraphX can't read it.
    """
    path: Path = arguments.model
    kind = arguments.kind or _SUFFIXES.get(path.suffix, "migraphx")
    if arguments.trim_size and not arguments.trim:
        raise OptionError("--trim-size is how much --trim leaves; give both")
    require_file(path)
    dims = parse_dims(arguments.input_dim)
    ranges = parse_ranges(arguments.dyn_input_dim, "--dyn-input-dim")
    params = parse_params(arguments.dim_param)
    inputs: Mapping[str, Lengths] = {}
    if kind == "onnx":
        inputs = read_face(path).inputs
        check_dims(dims, inputs)
        for name in ranges:
            require_input(name, inputs)
        named = lengths_by_name(params, inputs, _default(arguments))
        ranges = {**{name: found for name, found in named.items() if name not in dims}, **ranges}
    elif params or ranges or (dims and kind != "tf"):
        taken = (
            "--input-dim alone sets the lengths of a .pb file" if kind == "tf" else f"the lengths of {path} are fixed"
        )
        raise OptionError(f"--input-dim, --dyn-input-dim and --dim-param are for .onnx files: {taken}")
    # MIGraphX makes a dynamic shape of every range, even where all of its lengths are fixed.
    dims = {**dims, **{name: [each.min for each in own] for name, own in ranges.items() if is_fixed(own)}}
    ranges = {name: own for name, own in ranges.items() if not is_fixed(own)}
    model = _trimmed(_parse(path, kind, arguments, dims, ranges), arguments)
    return Model(path, model, kind, arguments.batch, inputs, frozenset(dims) | frozenset(ranges))


def _default(arguments: argparse.Namespace) -> dynamic_dimension:
    """What a dimension is that the file leaves open and nobody gives."""
    from iree_migraphx.binding import dynamic_dimension

    if arguments.default_dyn_dim:
        return parse_range(arguments.default_dyn_dim)
    return dynamic_dimension(arguments.batch, arguments.batch)


def _trimmed(model: program, arguments: argparse.Namespace) -> program:
    if not arguments.trim:
        return model
    from iree_migraphx import binding
    from iree_migraphx.cli.trim import trimmed
    from iree_migraphx.ir.read import read_program
    from iree_migraphx.ir.write import write_program

    program = read_program(binding.save_buffer(model))
    if program.targets:
        raise OptionError(f"{arguments.model} is compiled already, so --trim can't be")
    return binding.load_buffer(write_program(trimmed(program, arguments.trim, arguments.trim_size)))


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
            default_dyn_dim_value=_default(arguments) if default else None,
            map_input_dims=dims,
            map_dyn_input_dims=ranges,
        )
    if kind == "tf":
        return binding.parse_tf(path, arguments.nhwc, arguments.batch, dims, arguments.output_names)
    return binding.load(path, "json" if kind == "json" else "msgpack")
