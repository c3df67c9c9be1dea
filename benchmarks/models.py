"""The models that are measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Model:
    """An ONNX file and the lengths of those inputs that the file leaves open."""

    path: Path
    lens: Mapping[str, Sequence[int]]


#: name -> package that holds it, where, lengths of inputs
_KNOWN = {
    "light_resnet50": ("onnx", "backend/test/data/light/light_resnet50.onnx", {}),
    "det": ("rapidocr_onnxruntime", "models/*_det_*.onnx", {"x": (1, 3, 320, 320)}),
    "rec": ("rapidocr_onnxruntime", "models/*_rec_*.onnx", {"x": (1, 3, 48, 320)}),
    "cls": ("rapidocr_onnxruntime", "models/*_cls_*.onnx", {"x": (1, 3, 48, 192)}),
    "magika": ("magika", "models/standard_*/model.onnx", {"bytes": (1, 2048)}),
}
NAMES = tuple(_KNOWN)


def find(name: str) -> Model:
    """A known model, or a file with fixed shapes.

    Raises:
        FileNotFoundError: its package is not installed, or there is no such file.
    """
    if name not in _KNOWN:
        if not Path(name).is_file():
            raise FileNotFoundError(f"{name} is neither a file nor one of {', '.join(NAMES)}")
        return Model(Path(name), {})
    package, pattern, lens = _KNOWN[name]
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).glob(pattern)) if folders else []
    if not found:
        raise FileNotFoundError(f"{name} is in the package {package}, which is not installed")
    return Model(found[-1], lens)
