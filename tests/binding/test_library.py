import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from iree_migraphx.binding import capi, library
from iree_migraphx.binding.datatypes import FP4, TUPLE, TYPES, datatype_enum, type_t
from iree_migraphx.errors import LibraryNotFoundError


@pytest.fixture(scope="module")
def header():
    """The text of migraphx.h, without comments."""
    for folder in library.core_path().parents:
        path = folder / "include/migraphx/migraphx.h"
        if path.exists():
            return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    raise AssertionError(f"no migraphx.h near {library.core_path()}")


def test_datatype_enum_is_the_headers(header):
    visited = re.findall(r"m\((\w+_type), ", header)
    first = re.findall(r"migraphx_shape_(\w+_type),", header)
    assert datatype_enum() == {name: number for number, name in enumerate([*first, *visited])}
    assert first in ([TUPLE], [TUPLE, FP4])


def test_type_t_numbers_the_types_in_migraphx_s_order():
    assert [each.name for each in type_t] == list(TYPES)
    assert [int(each) for each in type_t] == list(range(len(TYPES)))


def test_prototypes_are_the_headers(header):
    """The number of arguments, and for each whether it is a pointer, a size, a number, a bool."""
    kinds = {"size_t": "c_ulong", "int64_t": "c_long", "bool": "c_bool", "migraphx_shape_datatype_t": "c_int"}
    for name, arguments in capi.PROTOTYPES.items():
        found = re.search(rf"\bmigraphx_{name}\(([^;]*)\);", header)
        assert found, name
        declared = [each.strip() for each in found.group(1).split(",") if each.strip() != "..."]
        assert len(declared) == len(arguments), name
        for text, given in zip(declared, arguments, strict=True):
            scalar = kinds.get(text.split()[0]) if "*" not in text else None
            pointer = scalar is None and (
                given.__name__.startswith("LP_") or given.__name__ in ("c_void_p", "c_char_p")
            )
            assert pointer or given.__name__ == scalar, f"{name}: {text} is {given.__name__}"


def test_every_function_is_there():
    for name in capi.PROTOTYPES:
        assert capi.function(name)


def test_nothing_found_says_what_to_do(monkeypatch):
    monkeypatch.setattr(library, "_candidates", lambda: iter(["libmigraphx_c.so.does-not-exist"]))
    with pytest.raises(LibraryNotFoundError, match=r"does-not-exist.*setup\.sh install_migraphx.*ROCM_PATH"):
        library._load.__wrapped__()


def test_rocm_path_comes_first(monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / library.SONAME).touch()
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    monkeypatch.setattr(library, "mapped_files", lambda name: [])
    assert next(library._candidates()) == tmp_path / "lib" / library.SONAME


def test_what_is_mapped_comes_before_rocm_path(monkeypatch, tmp_path):
    (tmp_path / library.SONAME).touch()
    folder = tmp_path / "migraphx/lib"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ROCM_PATH", "/nowhere")
    monkeypatch.setattr(
        library, "mapped_files", lambda name: [str(folder / "libmigraphx.so.1")] * (name == "libmigraphx")
    )
    assert next(library._candidates()) == tmp_path / library.SONAME


def test_two_migraphx_are_refused(monkeypatch):
    monkeypatch.setattr(library, "mapped_files", lambda name: ["/a/libmigraphx.so.1", "/b/libmigraphx.so.2"])
    with pytest.raises(LibraryNotFoundError, match=r"/a/libmigraphx\.so\.1 and /b/libmigraphx\.so\.2"):
        library.require_single()


def test_joins_the_libmigraphx_that_is_loaded_already():
    script = (
        "import ctypes, sys; ctypes.CDLL(sys.argv[1])\n"
        "from iree_migraphx.binding import library; library.load()\n"
        "print(library.mapped_files('libmigraphx'), library.mapped_files('libmigraphx_c'))"
    )
    core = library.core_path()
    run = subprocess.run([sys.executable, "-c", script, core], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"{[str(core)]} {[library.mapped_files('libmigraphx_c')[0]]}"


def test_targets_are_those_installed():
    assert "ref" in library.known_targets()
    assert all(any(Path(library.core_path().parent).glob(f"libmigraphx_{n}.so*")) for n in library.known_targets())


def test_function_that_this_release_lacks(monkeypatch):
    monkeypatch.setitem(capi.PROTOTYPES, "from_the_future", ())
    with pytest.raises(capi.MigraphxError, match="no function migraphx_from_the_future"):
        capi.function("from_the_future")


def test_importing_the_package_loads_nothing():
    script = "import iree_migraphx, sys; print('numpy' in sys.modules, 'libmigraphx' in open('/proc/self/maps').read())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert run.stdout.split()[1] == "False"
