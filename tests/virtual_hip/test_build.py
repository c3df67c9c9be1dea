"""Building the virtual libraries, and running files of tests under the interpreter that has them."""

import subprocess
import sys
from pathlib import Path

import pytest

from iree_migraphx import binding
from virtual_hip import build, hip
from virtual_hip.build import BuildError

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def libraries():
    """Where MIGraphX's targets are."""
    binding.get_target("ref")
    from iree_migraphx.binding import library

    return library.core_path().parent


@pytest.fixture(scope="module")
def debian():
    """The packages: the device's own library lies in a folder beside theirs."""
    hip.library()
    maps = Path("/proc/self/maps").read_text().split()
    found = next(Path(word) for word in maps if word.endswith("/" + hip.SONAME))
    return found.parents[1] / "debian"


def test_without_a_compiler(libraries, debian, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"install g\+\+ or clang\+\+, or set CXX"):
        build.build(libraries, debian, tmp_path / "lib")


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(libraries, debian, tmp_path, monkeypatch):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(BuildError, match=r"could not build libamdhip64.so.6:\nno such luck"):
        build.build(libraries, debian, tmp_path / "lib")
    assert not (tmp_path / "lib").exists()


def test_what_is_there_is_not_built_again(libraries, debian, tmp_path, monkeypatch):
    target = tmp_path / "lib"
    built = []
    monkeypatch.setattr(build, "compile_library", lambda c, library, *_: built.append(library.name))
    build.build(libraries, debian, target)
    assert built == ["libamdhip64.so.6", "libhiprtc.so.6", "libMIOpen.so.1", "librocblas.so.4", "libhipblaslt.so.1"]
    build.build(libraries, debian, target)
    assert len(built) == 5
    monkeypatch.setattr(build, "fingerprint", lambda *_: "another")
    build.build(libraries, debian, target)
    assert len(built) == 10
    assert not target.with_name("lib.partial").exists()


def test_without_the_packages(libraries, tmp_path):
    with pytest.raises(BuildError, match=r"libhiprtc.so.6 is missing; ./setup.sh install_virtual_gpu"):
        build.build(libraries, tmp_path, tmp_path / "lib")


def test_a_migraphx_without_its_gpu_target(debian, tmp_path):
    with pytest.raises(BuildError, match="has no libmigraphx_gpu"):
        build.build(tmp_path, debian, tmp_path / "lib")


def test_every_function_that_migraphx_imports_is_there(libraries, debian):
    imported = [*build.read(build.find(libraries, "libmigraphx_gpu")).imports]
    imported += build.read(build.find(libraries, "libmigraphx_device")).imports
    wanted = {i for i in imported if i.library == hip.SONAME}
    folder = debian.parent / "lib"
    assert len(wanted) > 35
    assert wanted <= exports(folder / hip.SONAME)


def exports(path):
    """A library's functions as somebody who was linked against it sees them."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerDefSection

    with path.open("rb") as file:
        elf = ELFFile(file)
        definitions = next(section for section in elf.iter_sections() if isinstance(section, GNUVerDefSection))
        names = {entry["vd_ndx"]: next(iter(aux)).name for entry, aux in definitions.iter_versions()}
        versions = elf.get_section_by_name(".gnu.version")
        symbols = elf.get_section_by_name(".dynsym").iter_symbols()
        return {
            build.Import(symbol.name, names.get(versions.get_symbol(index)["ndx"]), path.name)
            for index, symbol in enumerate(symbols)
            if symbol["st_shndx"] != "SHN_UNDEF"
        }


@pytest.mark.parametrize(("body", "passes"), [("check()", True), ("faults.append('x')", False)])
def test_a_file_of_tests_under_the_plain_interpreter(tmp_path, body, passes):
    conftest = "from virtual_hip.collect import pytest_pycollect_makemodule, virtual_device\n"
    options = "def pytest_addoption(parser):\n    parser.addoption('--examples')\n"
    (tmp_path / "conftest.py").write_text(f"import sys\nsys.path.insert(0, {str(TESTS)!r})\n{conftest}{options}")
    (tmp_path / "test_it.py").write_text(f"def test_it(virtual_device):\n    virtual_device.{body}\n")
    plain = Path(sys.prefix) / "bin/python"
    command = [str(plain), "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (run.returncode == 0) is passes, run.stdout
    assert ("1 passed" if passes else "VirtualDeviceError: on the virtual GPU") in run.stdout
