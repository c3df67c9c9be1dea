"""The YAML file that IREE_CONFIG names: extra flags for iree-compile, and any other setting."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from iree_migraphx.errors import OptionError

_EXAMPLE = "a YAML list of iree-compile flags (each line like `- --iree-opt-level=O3`)"
#: What a list's elements are handed to a setting's reader with in between: no path or pattern has it.
BETWEEN = "\n"

_SCOPES = ("targets", "anchors")


@dataclass(frozen=True, slots=True)
class Flags:
    """Extra flags for iree-compile, from the general to the particular; of two with one name the later one counts.

    Attributes:
        everywhere: for every kernel.
        targets: for a target's kernels, by "host", "gpu", or a GPU's gfx, product name or whole name, in this order.
        anchors: for the kernels around an operator, by its MIGraphX name ("convolution", "dot").
    """

    everywhere: tuple[str, ...] = ()
    targets: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    anchors: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.everywhere or self.targets or self.anchors)


def read_config(path: Path, readers: Mapping[str, Callable[[str, str], Any]]) -> dict[str, Any]:
    """The settings in a YAML file, by option.

    The file holds a list of flags, as the prototype's did, or a mapping: `flags` for every kernel, `targets` and
    `anchors` with flags for some (see `Flags`), and any other option by its name.

    Args:
        path: the file.
        readers: for each option, what reads it from text, given a name for error messages.

    Raises:
        OptionError: no such file, not YAML, an unknown name, or a value that the setting can't have.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"IREE_CONFIG names {path}, which can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise OptionError(f"IREE_CONFIG names {path}, which is not valid YAML: {error}") from error
    where = f"IREE_CONFIG names {path}, which"
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        return {"flags": _flags(config, where)}
    settings: dict[str, Any] = {}
    for name, value in config.items():
        if name in readers:
            settings[name] = readers[name](f"{name} in {path}", _text(value, f"{where} sets {name}: it"))
        elif name not in ("flags", *_SCOPES):
            hint = did_you_mean(str(name), ["flags", *_SCOPES, *readers])
            raise OptionError(f"{where} sets {name}, which is not a setting{hint}")
    flags = Flags(
        _flags(config.get("flags"), f"{where} sets flags: it"),
        *(_flags_by_name(config.get(scope), f"{where} sets {scope}: it") for scope in _SCOPES),
    )
    return {**settings, "flags": flags} if flags else settings


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the known one most like it, if any is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _flags_by_name(value: object, where: str) -> dict[str, tuple[str, ...]]:
    if value is not None and not isinstance(value, Mapping):
        raise OptionError(f"{where} must hold a mapping, with {_EXAMPLE} under each name")
    return {str(name): _flags(flags, f"{where} has {name}, which") for name, flags in (value or {}).items()}


def _flags(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(flag, str) and flag.startswith("-") for flag in value):
        raise OptionError(f"{where} must hold {_EXAMPLE}")
    return tuple(value)


def _text(value: object, where: str) -> str:
    """A value as a variable of the environment would give it."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return BETWEEN.join(value)
    if not isinstance(value, (str, int, float)):
        raise OptionError(f"{where} must be one value, or a list of texts")
    return str(value)
