"""Build the virtual HIP device and the stand-ins for MIOpen, rocBLAS and hipBLASLt, as one MIGraphX imports them.

    python build.py MIGRAPHX_LIBRARIES DEBIAN_TREE TARGET

The names of the libraries, the functions that the stand-ins have and the versions of their symbols are read from
libmigraphx_gpu and libmigraphx_device.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

SOURCES = Path(__file__).parent / "src"
HIPRTC = "usr/lib/x86_64-linux-gnu/libhiprtc.so.6"
DEVICE = ("observer.cpp", "memory.cpp", "device.cpp", "module.cpp")
# Only what a stand-in's caller reads afterwards: argument number and what to put there. Functions whose name says that
# they create or load something put a handle into argument 0.
RESULTS = {
    "miopenCreateOpConvForward": {1: "handle"},
    "miopenCreateOpBiasForward": {1: "handle"},
    "miopenCreateOpActivationForward": {1: "handle"},
    "miopenCreateWithStream": {0: "handle"},
    "miopenConvolutionForwardGetWorkSpaceSize": {5: "0"},
    "miopenFindSolutions": {3: "handle", 4: "1"},
    "miopenGetSolutionSize": {1: "1"},
    "miopenGetSolutionWorkspaceSize": {1: "0"},
    "hipblasLtMatmulAlgoGetHeuristic": {9: "1 (int)"},
    "rocblas_create_handle": {0: "handle"},
}
CREATES = re.compile(r"(Create|LoadSolution)")
# What a program's results depend on: a stand-in for one of these leaves its output as it was.
COMPUTES = re.compile(
    r"^(miopen(Activation|LRN|Pooling)Forward|miopenExecuteFusionPlan|miopenRunSolution|hipblasLtMatmul"
    r"|rocblas_gemm(_strided_batched)?_ex)$"
)


class BuildError(Exception):
    """Why the virtual device can't be built, and what to do."""


@dataclass(frozen=True)
class Import:
    """An undefined symbol of a library, and the version and library that it is bound to, if any."""

    name: str
    version: str | None
    library: str | None


@dataclass(frozen=True)
class Library:
    """What a shared library needs."""

    needed: tuple[str, ...]
    imports: tuple[Import, ...]


def main() -> None:
    """Build, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("migraphx", type=Path, help="folder of libmigraphx_gpu.so")
    parser.add_argument("debian", type=Path, help="folder that holds usr/ with HIP's headers and hiprtc")
    parser.add_argument("target", type=Path, help="folder for the libraries")
    given = parser.parse_args()
    try:
        build(given.migraphx, given.debian, given.target)
    except BuildError as error:
        sys.exit(f"error: {error}")


def build(migraphx: Path, debian: Path, target: Path) -> None:
    """Write the libraries into the folder `target`, unless they are there and were made from the same sources.

    Raises:
        BuildError: no C++ compiler, one that fails, or a MIGraphX that is put together in another way.
    """
    gpu = read(find(migraphx, "libmigraphx_gpu"))
    device = read(find(migraphx, "libmigraphx_device"))
    compiler = find_compiler()
    hiprtc = debian.resolve() / HIPRTC
    if not hiprtc.exists():
        raise BuildError(f"{hiprtc} is missing; ./setup.sh install_virtual_gpu fetches it")
    stamp = fingerprint(migraphx, debian, compiler)
    if (target / "stamp").is_file() and (target / "stamp").read_text() == stamp:
        return
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    imports = gpu.imports + device.imports
    hip = one(gpu.needed, "libamdhip64")
    flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", f"-I{SOURCES}"]
    flags += ["-D__HIP_PLATFORM_AMD__=1", "-isystem", str(debian / "usr/include")]

    versions = version_script(imports, hip)
    compile_library(compiler, partial / hip, flags, versions, [SOURCES / name for name in DEVICE])

    build_id = f"{hiprtc.stat().st_size} {hiprtc.stat().st_mtime_ns}"
    define = [f'-DREAL_HIPRTC="{hiprtc}"', f'-DREAL_HIPRTC_BUILD="{build_id}"']
    compile_library(compiler, partial / one(gpu.needed, "libhiprtc"), flags + define, "", [SOURCES / "hiprtc.cpp"])

    stubs = {
        "libMIOpen": [i for i in imports if i.name.startswith("miopen")],
        "librocblas": [i for i in imports if i.name.startswith("rocblas")],
        "libhipblaslt": [i for i in imports if "hipblas" in i.name],
    }
    for number, (prefix, wanted) in enumerate(stubs.items()):
        soname = one(gpu.needed, prefix)
        source = partial / f"{prefix}.cpp"
        source.write_text("".join(stub_source(prefix[3:], wanted)))
        sources, extra = [source], []
        if number == 0:
            if gpu.needed.index(soname) > gpu.needed.index(one(gpu.needed, "libmigraphx_device")):
                raise BuildError(
                    f"libmigraphx_gpu names libmigraphx_device before {soname}, which then can't replace it"
                )
            sources.append(SOURCES / "contiguous.cpp")
            extra.append(f"-DMIGRAPHX_NAMESPACE={namespace(gpu)}")
        versions = version_script(wanted, soname)
        compile_library(compiler, partial / soname, flags + extra, versions, [*sources, partial / hip])
        source.unlink()
    (partial / "stamp").write_text(stamp)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def find(folder: Path, name: str) -> Path:
    """The library of that name."""
    for path in sorted(folder.glob(f"{name}.so*")):
        return path
    raise BuildError(
        f"{folder} has no {name}; it needs Debian's migraphx-tools, or another MIGraphX with its gpu target"
    )


def find_compiler() -> str:
    """The system's C++ compiler: $CXX, else one of the usual names."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise BuildError("no C++ compiler was found to build the virtual GPU; install g++ or clang++, or set CXX")


def fingerprint(migraphx: Path, debian: Path, compiler: str) -> str:
    """Of everything that a library is made from."""
    digest = hashlib.sha256(f"{migraphx.resolve()} {debian.resolve()} {compiler}".encode())
    for path in [Path(__file__), *sorted(SOURCES.iterdir())]:
        digest.update(path.read_bytes())
    for path in (find(migraphx, "libmigraphx_gpu"), find(migraphx, "libmigraphx_device"), debian / HIPRTC):
        status = path.stat()
        digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def read(path: Path) -> Library:
    """What a library imports."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        needed = tuple(tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED"))
        versions = {}
        for section in elf.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                for library, entries in section.iter_versions():
                    versions |= {entry["vna_other"]: (entry.name, library.name) for entry in entries}
        numbers = elf.get_section_by_name(".gnu.version")
        imports = []
        for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
            if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name:
                number = numbers.get_symbol(index)["ndx"] if numbers else None
                imports.append(Import(symbol.name, *versions.get(number, (None, None))))
    return Library(needed, tuple(imports))


def one(needed: tuple[str, ...], prefix: str) -> str:
    """The library of that name among those that another one needs."""
    for name in needed:
        if name.startswith(f"{prefix}.so"):
            return name
    raise BuildError(f"libmigraphx_gpu does not need {prefix}: it is built in another way than the virtual GPU knows")


def namespace(gpu: Library) -> str:
    """The inline namespace of MIGraphX's version, as in migraphx::version_2_14_0::gpu::device::contiguous."""
    for entry in gpu.imports:
        if match := re.match(r"_ZN8migraphx\d+(version_\w+?)3gpu6device10contiguous", entry.name):
            return match.group(1)
    raise BuildError(
        "libmigraphx_gpu does not import its kernel `contiguous`: it copies in a way that is not known here"
    )


def version_script(imports: tuple[Import, ...] | list[Import], library: str) -> str:
    """Every function under the version that its importer wants; those that nobody imports have none."""
    versions: dict[str, set[str]] = {}
    for entry in imports:
        if entry.version and entry.library == library:
            versions.setdefault(entry.version, set()).add(entry.name)
    nodes = [
        f"{version} {{ global: {' '.join(f'{n};' for n in sorted(names))} }};\n" for version, names in versions.items()
    ]
    return "".join(nodes)


def stub_source(library: str, imports: list[Import]) -> Iterator[str]:
    """C++ whose functions do nothing but hand out handles and report the call.

    All take ten machine words: on x86-64 a function may declare more arguments than it was called with, as long as it
    does not touch them.
    """
    yield '#include "virtual_hip.h"\n#include <atomic>\n'
    yield "static std::atomic<std::uintptr_t> next_handle{0x1000};\n"
    yield "static inline void* handle() { return reinterpret_cast<void*>(next_handle += 16); }\n"
    parameters = ", ".join(f"void* a{n}" for n in range(10))
    for entry in sorted(set(imports), key=lambda i: i.name):
        results = RESULTS.get(entry.name, {0: "handle"} if CREATES.search(entry.name) else {})
        yield f'VIRTUAL_HIP_API int stub_{entry.name}({parameters}) __asm__("{entry.name}");\n'
        yield f"int stub_{entry.name}({parameters}) {{\n"
        yield "".join(f"  (void)a{n};\n" for n in range(10))
        for number, value in results.items():
            kind = {"handle": "void*", "1 (int)": "int"}.get(value, "std::size_t")
            what = "handle()" if value == "handle" else value.split()[0]
            yield f"  *static_cast<{kind}*>(a{number}) = {what};\n"
        if COMPUTES.match(entry.name):
            yield f'  virtual_hip_library_call("{library}", "{entry.name}");\n'
        yield "  return 0;\n}\n"


def compile_library(compiler: str, library: Path, flags: list[str], versions: str, inputs: list[Path]) -> None:
    """Run the compiler."""
    command = [compiler, *flags, f"-Wl,-soname,{library.name}", "-o", str(library), *map(str, inputs)]
    script = library.with_suffix(".versions")
    script.write_text(versions)
    if versions:
        command.append(f"-Wl,--version-script={script}")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    script.unlink()
    if result.returncode:
        raise BuildError(f"{compiler} could not build {library.name}:\n{result.stderr}")


if __name__ == "__main__":
    main()
