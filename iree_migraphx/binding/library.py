"""Finding and loading libmigraphx_c: the one that belongs to the libmigraphx this process has already, if any.

Custom operators are registered per library, so a second copy would be a second MIGraphX that knows none of them.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import threading
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path

from iree_migraphx import options
from iree_migraphx.errors import LibraryNotFoundError

SONAME = "libmigraphx_c.so.3"
_DEFAULT_ROCM = Path("/opt/rocm")
_TARGETS = ("ref", "gpu", "cpu", "fpga")
_LOCK = threading.Lock()


def load() -> ctypes.CDLL:
    """libmigraphx_c, loaded once.

    Raises:
        LibraryNotFoundError: none was found, none can be loaded, or the process holds two different libmigraphx.
    """
    with _LOCK:
        return _load()


@functools.cache
def _load() -> ctypes.CDLL:
    failures = []
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(str(candidate))
        except OSError as error:
            failures.append(str(error))
            continue
        require_single()
        return library
    raise LibraryNotFoundError(
        f"{SONAME}, MIGraphX's C interface, can't be loaded ({'; '.join(dict.fromkeys(failures))}). "
        "Run `./setup.sh install_migraphx` and use the Python that it sets up, or install ROCm's migraphx package and "
        "set ROCM_PATH to ROCm's folder."
    )


def require_single() -> None:
    """Make sure that there is one MIGraphX in the process.

    Raises:
        LibraryNotFoundError: there are two.
    """
    core = mapped_files("libmigraphx")
    if len(core) > 1:
        raise LibraryNotFoundError(
            f"this process holds two copies of MIGraphX, {core[0]} and {core[1]}: what one makes is unknown to "
            "the other. Load one only; ROCM_PATH says which one iree_migraphx takes."
        )


def core_path() -> Path:
    """The file of the libmigraphx that is loaded; its name carries the version, its folder holds the targets."""
    load()
    return Path(mapped_files("libmigraphx")[0])


def known_targets() -> list[str]:
    """Targets whose library is installed beside libmigraphx, e.g. ["ref", "gpu"]."""
    folder = core_path().parent
    return [name for name in _TARGETS if any(folder.glob(f"libmigraphx_{name}.so*"))]


def _candidates() -> Iterator[Path | str]:
    """Where to look, best first; a bare name is left to the system's loader."""
    mapped = mapped_files("libmigraphx_c")
    if mapped:
        yield Path(mapped[0])
        return
    core = mapped_files("libmigraphx")
    if core:
        yield from _around(Path(core[0]).parent)
    else:
        rocm = options.rocm_path()
        if rocm is not None:
            yield from _in_rocm(rocm)
        module = official_module_folder()
        if module is not None:
            yield from _around(module)
    yield SONAME
    yield from _in_rocm(_DEFAULT_ROCM)


def _around(folder: Path) -> list[Path]:
    """Beside libmigraphx (ROCm), or two folders up (Debian keeps only the C library in the public folder)."""
    return _existing(folder / SONAME, folder / "migraphx/lib" / SONAME, folder.parent.parent / SONAME)


def _in_rocm(rocm: Path) -> list[Path]:
    return _existing(rocm / "lib" / SONAME, rocm / "lib/migraphx/lib" / SONAME)


def _existing(*paths: Path) -> list[Path]:
    return [path for path in paths if path.exists()]


def official_module_folder() -> Path | None:
    """Folder of ROCm's `migraphx` extension module; None for PyPI's placeholder of that name, which is plain Python."""
    try:
        spec = importlib.util.find_spec("migraphx")
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not is_extension(spec):
        return None
    return Path(spec.origin).resolve().parent


def is_extension(spec: ModuleSpec) -> bool:
    """The module is compiled code."""
    return spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES))


def mapped_files(name: str) -> list[str]:
    """Files of the library `name` that this process has mapped."""
    pattern = re.compile(rf"(/.*/{name}\.so[.\d]*)(?: \(deleted\))?$")  # deleted: it was upgraded meanwhile
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        found = (pattern.search(line.rstrip("\n")) for line in maps)
        return list(dict.fromkeys(match.group(1) for match in found if match))
