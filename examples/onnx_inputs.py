"""What an ONNX model takes: its inputs, the lengths given for open dimensions, and values for a run."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.cli.values import generate as generate
from iree_migraphx.errors import InputError

Values = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model.

    Attributes:
        dims: lengths, None where the model leaves one open; `dims` itself is None where it leaves the rank open.
    """

    name: str
    dims: tuple[int | None, ...] | None

    @property
    def is_open(self) -> bool:
        """Whether the model leaves a length to whoever runs it."""
        return self.dims is None or None in self.dims


@dataclass(frozen=True)
class Model:
    """The face of an ONNX file."""

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_model(path: Path) -> Model:
    """Read names and dimensions of a model's inputs and outputs.

    Raises:
        InputError: no such file, or no ONNX model in it.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
    except OSError as error:
        raise InputError(f"can't read the model {path}: {error.strerror}") from error
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX model, or only a part of one: {error}") from error
    if not model.HasField("graph"):
        problem = "there is no graph in it" if path.stat().st_size else "it is empty"
        raise InputError(f"{path} is not an ONNX model: {problem}")
    weights = {weight.name for weight in model.graph.initializer}
    inputs = tuple(_tensor(value) for value in model.graph.input if value.name not in weights)
    return Model(path, inputs, tuple(map(_tensor, model.graph.output)))


def _tensor(value: Any) -> Tensor:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return Tensor(value.name, None)
    # Some exporters write -1, and MIGraphX takes every length below 1 for an open one (onnx_parser.cpp).
    return Tensor(value.name, tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim))


def parse_input_dims(words: Iterable[str], model: Model) -> dict[str, list[int]]:
    """Understand lengths as migraphx-driver takes them: `@name 1 3 320 320`, in one word or several, for any inputs.

    They are checked here against the model: MIGraphX ignores an unknown name, and a build of it with assertions ends
    the process where the rank is not the model's.

    Raises:
        InputError: not of that form, a name or a rank that is not the model's, another length than the model fixes.
    """
    given: dict[str, list[int]] = {}
    name = None
    for word in " ".join(words).split():
        if word.startswith("@") and len(word) > 1:
            name = word[1:]
            given[name] = []
        elif name is not None and word.isascii() and word.isdigit() and int(word) > 0:
            given[name].append(int(word))
        else:
            raise InputError(f'--input-dim has {word!r}; write it like "@name 1 3 320 320", with lengths above 0')
    inputs = {tensor.name: tensor for tensor in model.inputs}
    for name, lengths in given.items():
        require_input(name, inputs)
        dims = inputs[name].dims
        fits = dims is None or (
            len(lengths) == len(dims) and all(dim in (None, length) for dim, length in zip(dims, lengths, strict=True))
        )
        if not fits:
            wanted = " ".join("?" if dim is None else str(dim) for dim in dims or ())
            raise InputError(f"--input-dim gives {name} the lengths {lengths}, but the model says @{name} {wanted}")
    return given


def require_input(name: str, known: Iterable[str]) -> None:
    """Make sure that the model has an input of that name.

    Raises:
        InputError: it does not.
    """
    names = list(known)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names) or 'none'}"
        raise InputError(f"the model has no input {name!r}; {hint}")


def unset_dims_notes(model: Model, shapes: Mapping[str, Any], given: Mapping[str, Sequence[int]]) -> list[str]:
    """One line for each input with open dimensions that nobody gave: what was taken, and how to set them."""
    notes = []
    for tensor in model.inputs:
        if tensor.is_open and tensor.name not in given:
            taken = " ".join(map(str, shapes[tensor.name].lens()))
            notes.append(
                f"{tensor.name} has dimensions that the model leaves open; each was taken as 1: {taken}. "
                f'Set them with --input-dim "@{tensor.name} {taken}", with lengths of yours'
            )
    return notes


def load_values(given: Iterable[str], names: Iterable[str]) -> Values:
    """Read the arrays of `--input name=file.npy`.

    Raises:
        InputError: not of that form, no such input, or not an array in numpy's format.
    """
    known = list(names)
    values: Values = {}
    for text in given:
        name, equals, file = text.rpartition("=")
        if not (name and equals and file):
            raise InputError(f"--input {text!r} is not of the form name=file.npy")
        require_input(name, known)
        try:
            with open(file, "rb") as stream:
                values[name] = np.lib.format.read_array(stream, allow_pickle=False)
        except OSError as error:
            raise InputError(f"can't read {file}, the value of {name}: {error.strerror}") from error
        except (ValueError, EOFError) as error:
            raise InputError(f"{file}, the value of {name}, is not a .npy file that can be used: {error}") from error
    return values
