"""Lengths of a model's inputs: what an ONNX file says of them, and what a command line does."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import InputError, OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import dynamic_dimension
    from iree_migraphx.binding.onnx_model import Face, Lengths


def is_open(lens: Lengths) -> bool:
    """Whether an ONNX file leaves a length of an input to whoever reads it."""
    return lens is None or not all(isinstance(length, int) for length in lens)


def read_face(path: Path) -> Face:
    """What an ONNX file takes and gives, without reading its weights.

    Raises:
        InputError: there is no such file, or no whole model in it.
    """
    from iree_migraphx.binding.onnx_model import model_face

    require_file(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        try:
            face = model_face(view)
        finally:
            view.release()
    if face is None:
        raise InputError(f"{path} is not an ONNX model, or only a part of one")
    return face


def require_file(path: Path) -> None:
    """See that a model can be read and is not empty.

    Raises:
        InputError: it is not so.
    """
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError(f"the model {path} is empty")
    except OSError as error:
        raise InputError(f"can't read the model {path}: {error.strerror}") from error


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


def check_dims(dims: Mapping[str, list[int]], inputs: Mapping[str, Lengths]) -> None:
    """See that lengths fit an ONNX model: MIGraphX ignores a wrong name, and may end the process at a wrong rank.

    Raises:
        OptionError: an input that the model does not have, another rank, or another length than the model fixes.
    """
    for name, lengths in dims.items():
        lens = require_input(name, inputs)
        if lens is None:
            continue
        if len(lens) != len(lengths) or any(
            isinstance(own, int) and own != length for own, length in zip(lens, lengths, strict=True)
        ):
            wanted = " ".join(str(length) if isinstance(length, int) else "?" for length in lens)
            raise OptionError(f"--input-dim gives {name} the lengths {lengths}, but the model says @{name} {wanted}")


def require_input(name: str, inputs: Mapping[str, Lengths]) -> Lengths:
    """The lengths of an input.

    Raises:
        OptionError: the model has no such input.
    """
    if name not in inputs:
        hint = did_you_mean(name, inputs) or f"; it has {', '.join(inputs) or 'none'}"
        raise OptionError(f"the model has no input {name!r}{hint}")
    return inputs[name]


def parse_ranges(words: Iterable[str], flag: str) -> dict[str, list[dynamic_dimension]]:
    """Ranges of lengths by name, from "@name" and JSON of one dimension or of several.

    Raises:
        OptionError: not of that form.
    """
    ranges: dict[str, list[dynamic_dimension]] = {}
    name = ""
    # "@name" and what belongs to it may be one word.
    for word in (part for given in words for part in (given.split(None, 1) if given.startswith("@") else [given])):
        if word.startswith("@") and len(word) > 1:
            name = word[1:]
        elif name:
            value = _relaxed_json(word)
            ranges[name] = [_range(each, word) for each in (value if isinstance(value, list) else [value])]
        else:
            example = "[{min:1,max:64},3,224,224]" if flag == "--dyn-input-dim" else "{min:1,max:64}"
            raise OptionError(f'{flag} has {word!r}; write it like "@name" "{example}"')
    return ranges


def parse_range(text: str) -> dynamic_dimension:
    """A range of lengths, from "{min:1,max:64}".

    Raises:
        OptionError: not of that form.
    """
    return _range(_relaxed_json(text), text)


def parse_params(words: Iterable[str]) -> dict[str, dynamic_dimension]:
    """What --dim-param gives, by the dimension's name.

    Raises:
        OptionError: not of that form, or several lengths for one dimension.
    """
    found = parse_ranges(words, "--dim-param")
    for name, values in found.items():
        if len(values) != 1:
            raise OptionError(f"--dim-param gives @{name} {len(values)} lengths; it is one dimension")
    return {name: values[0] for name, values in found.items()}


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


def is_fixed(lens: Sequence[dynamic_dimension]) -> bool:
    """Whether there is nothing to choose in a run."""
    return all(each.min == each.max for each in lens)


def lengths_by_name(
    params: Mapping[str, dynamic_dimension], inputs: Mapping[str, Lengths], other: dynamic_dimension
) -> dict[str, list[dynamic_dimension]]:
    """Lengths of the inputs with a named dimension that is given, as MIGraphX's parser takes them (onnx_parser.cpp).

    Args:
        params: by the dimension's name.
        inputs: of the ONNX file.
        other: for all dimensions that stay open.

    Raises:
        OptionError: the model has no such dimension.
    """
    from iree_migraphx.binding import dynamic_dimension

    known = {length for lens in inputs.values() for length in lens or () if isinstance(length, str)}
    for name in params:
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(sorted(known)) or 'none'}"
            raise OptionError(f"the model has no dimension named {name!r}{hint}")
    return {
        name: [
            dynamic_dimension(length, length) if isinstance(length, int) else params.get(length or "", other)
            for length in lens
        ]
        for name, lens in inputs.items()
        if lens is not None and not params.keys().isdisjoint(lens)
    }
