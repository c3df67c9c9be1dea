"""Building rocm_module.cpp."""

import hashlib
import importlib.metadata
import os
import subprocess
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".cpp")


def build(folder):
    """The folder below `folder` that holds the module `migraphx`; built once for each source, pybind11 and Python."""
    import pybind11

    from iree_migraphx.binding import library

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    c_interface = library.mapped_files("libmigraphx_c") if library.load() else []
    key = [SOURCE.read_text(), importlib.metadata.version("pybind11"), suffix, *c_interface]
    made = Path(folder) / hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    if not made.exists():
        unfinished = made.with_name(f"{made.name}-{os.getpid()}")
        unfinished.mkdir(parents=True)
        includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
        options = [
            "-std=c++17",
            "-O0",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-Wl,--unresolved-symbols=ignore-all",
        ]
        command = ["g++", *options, *includes, SOURCE, "-o", unfinished / f"migraphx{suffix}", *c_interface]
        subprocess.run(command, check=True, capture_output=True, text=True)
        unfinished.rename(made)
    return made
