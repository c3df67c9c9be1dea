"""A MIGraphX with patches/ on the virtual GPU: `patched.py SCENARIO` in a process of its own, which ends by status.

Only the two source files of the patch are compiled (with Debian's headers of HIP, the release's of MIGraphX), into a
library that registers the operator `gpu::code_object` once more when it is loaded, in the stock one's place. It exports
nothing. To it a stream of MIGraphX's has no handles of MIOpen, rocBLAS and hipBLASLt in it: only the first one is used.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np

from gpu import nets
from gpu.harness import compiled, register_migraphx, run_on_device
from iree_migraphx import binding
from iree_migraphx.binding.device import has_launch_dims
from iree_migraphx.binding.library import mapped_files
from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options
from iree_migraphx.splice import gpu_sequence
from kernels.sources import dot
from virtual_hip.build import find_compiler
from virtual_hip.device import KernelSpec, VirtualDevice

REPOSITORY = Path(__file__).resolve().parents[2]
MORE = ("global_y", "global_z", "local_y", "local_z", "dynamic_lds")
GRID, DYNAMIC_LDS = (2, 3, 5), 1024


def build(sources: Path, folder: Path) -> Path:
    """Compile what patches/ touches in a copy of MIGraphX's sources; the gpu target must be loaded."""
    for part in ("src/include", "src/targets/gpu"):
        shutil.copytree(sources / part, folder / part)
    setup = ["bash", str(REPOSITORY / "setup.sh"), "apply_patches", str(folder)]
    subprocess.run(setup, check=True, capture_output=True, text=True)
    made, gpu = folder / "made/migraphx", folder / "src/targets/gpu"
    (made / "gpu").mkdir(parents=True)
    libraries = [mapped_files(name)[0] for name in ("libmigraphx_gpu", "libmigraphx", "libamdhip64")]
    number = int(re.search(r"\.so\.(\d+)", libraries[1])[1])
    version = zip(("MAJOR", "MINOR", "PATCH"), (number // 1000000, number // 1000 % 1000, number % 1000), strict=True)
    (made / "version.h").write_text("".join(f"#define MIGRAPHX_VERSION_{name} {value}\n" for name, value in version))
    for name in ("export.h", "gpu/export.h"):
        (made / name).touch()
    hip = Path(libraries[2]).parent.parent / "debian/usr/include"
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-gnu-unique"]
    flags += [f"-D{name}=" for name in ("MIGRAPHX_EXPORT", "MIGRAPHX_GPU_EXPORT")] + ["-D__HIP_PLATFORM_AMD__=1"]
    flags += [f"-DMIGRAPHX_USE_{name}=0" for name in ("MIOPEN", "ROCBLAS", "HIPBLASLT")]
    flags += [f"-I{made.parent}", f"-I{folder}/src/include", f"-I{gpu}/include", "-isystem", str(hip)]
    flags += ["-Wl,-Bsymbolic", "-Wl,--allow-shlib-undefined"]
    library = folder / "libpatched.so"
    files = [str(gpu / f"{name}.cpp") for name in ("kernel", "code_object_op")]
    subprocess.run([find_compiler(), *flags, *files, "-o", str(library), *libraries], check=True)
    return library


def stock_then_patched(library: Path) -> None:
    """See that the operator has the fields from here on, and had none before."""
    assert not has_launch_dims()
    ctypes.CDLL(str(library))
    assert has_launch_dims()


def blocks(device: VirtualDevice, library: Path, options: Options) -> None:
    """Whole programs: kernels of IREE's own choice, whose workgroups are two-dimensional."""
    device.use("gfx1100")
    stock_then_patched(library)
    done = compiled(nets.mlp(), options, device)
    assert done.report.swapped == done.report.eligible == 2, done.report.summary()
    assert all(kernel.workgroup_size_yz == (8, 1) for kernel in done.kernels.values())
    x = np.random.default_rng(0).integers(-2, 3, (8, 32)).astype(np.float32)
    before = run_on_device(done, device, {"x": x}, False)
    saved = binding.save_buffer(done.program)
    done.program = binding.load_buffer(saved)
    after = run_on_device(done, device, {"x": x}, False)
    ref = binding.parse_onnx_buffer(nets.mlp())
    ref.compile(binding.get_target("ref"))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(before[0], np.asarray(ref.run({"x": x})[0]), rtol=1e-5, atol=1e-5)
    assert {launch.local_size[1] for launch in device.launches} == {8}
    assert len(device.launches) == 4


def grid(device: VirtualDevice, library: Path, options: Options) -> None:
    """A launch in three dimensions with dynamic local memory, before and after a file."""
    stock_then_patched(library)
    kernel = compile_kernels([dot()], parse_target("gfx942"), options)[0].kernel
    kernel = replace(kernel, workgroups=GRID[0], workgroups_yz=GRID[1:], dynamic_lds=DYNAMIC_LDS)
    lens = ((64, 32), (32, 48), (48,), (64, 48))
    shapes = [Shape.standard_of("half_type", lens[index]) for index in kernel.operands]
    fields = gpu_sequence.code_object(kernel, kernel.code_object, shapes, len(shapes) - 1)
    program = one_launch(shapes, fields)
    sizes = tuple(shape.nbytes for shape in shapes)
    device.register(kernel.symbol, KernelSpec(sizes, lambda _: None, (-1,), GRID, DYNAMIC_LDS))
    run(device, program)
    saved = binding.save_buffer(program)
    kept = code_object_of(saved)
    assert all(kept[name] == fields[name] for name in ("global", "local", *MORE))
    run(device, binding.load_buffer(saved))
    seen = [(launch.global_size, launch.local_size, launch.dynamic_lds) for launch in device.launches]
    size = kernel.workgroup_size
    assert seen == [((GRID[0] * size, *GRID[1:]), (size, 1, 1), DYNAMIC_LDS)] * 2


def old_files(device: VirtualDevice, library: Path, options: Options) -> None:
    """A program that the stock MIGraphX compiled and saved loads, with its own kernels and ours."""
    done = compiled(nets.joined(), options, device)
    saved = binding.save_buffer(done.program)
    assert "global_y" not in code_object_of(saved)
    x = np.random.default_rng(0).integers(-2, 3, (1, 4, 7, 7)).astype(np.float32)
    before = run_on_device(done, device, {"x": x}, False)
    stock_then_patched(library)
    done.program = binding.load_buffer(saved)
    after = run_on_device(done, device, {"x": x}, False)
    np.testing.assert_array_equal(before, after)
    fields = code_object_of(binding.save_buffer(done.program))
    assert [fields[name] for name in MORE] == [1, 1, 1, 1, 0]
    register_migraphx(device, done.instructions())


def one_launch(shapes: list[Shape], fields: dict[str, object]) -> binding.program:
    """A program of this launch over its parameters, the last of which is the result."""
    given = [Instruction(f"x{n}", "@param", shape, {"parameter": f"x{n}"}) for n, shape in enumerate(shapes)]
    launch = Instruction("@launch", "gpu::code_object", shapes[-1], fields, tuple(i.id for i in given))
    end = Instruction("@return", "@return", shapes[-1], {}, (launch.id,))
    main = Module("main", (*given, launch, end))
    whole = Program(7, "2.14.0", {"main": main}, ({"name": "gpu"},), ({"events": 0, "streams": 1},))
    return binding.load_buffer(write_program(whole))


def code_object_of(saved: bytes) -> dict[str, object]:
    """The fields of a program's first launch."""
    return dict(next(i for i in read_program(saved).instructions() if i.name == "gpu::code_object").operator)


def run(device: VirtualDevice, program: binding.program) -> None:
    """Run a program over fresh memory."""
    shapes = program.get_parameter_shapes()
    buffers = {name: device.allocate(shape.bytes()) for name, shape in shapes.items()}
    program.run({name: binding.argument_from_pointer(shapes[name], each.address) for name, each in buffers.items()})
    device.free(*buffers.values())


SCENARIOS = {scenario.__name__: scenario for scenario in (blocks, grid, old_files)}


def main(scenario: str, library: str, cache: str) -> int:
    """Play a scenario."""
    try:
        with VirtualDevice() as device:
            binding.get_target("gpu")
            SCENARIOS[scenario](device, Path(library), Options(cache_dir=Path(cache), quiet=True))
            device.check()
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stderr.flush()
    # Both libraries would take the operator back at the end, and MIGraphX's asserts that it is there.
    os._exit(status)
