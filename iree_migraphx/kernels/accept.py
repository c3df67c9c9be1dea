"""Whether MIGraphX can launch what IREE made: pointers only, one grid and one workgroup dimension.

Several launches, and fills and copies beside them, are a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.code_object import CodeObject, KernelMetadata, read_code_object
from iree_migraphx.kernels.hal import Binding, Dispatch, HalFunction, Transfer, read_hal
from iree_migraphx.kernels.model import Copy, Fill, GpuKernel, GpuSequence, HostKernel, Launch, Region, Request
from iree_migraphx.kernels.targets import Target
from iree_migraphx.report import KernelResources

#: What IREE's GPU kernels take for granted of every pointer; what the device allocates is aligned to 256 bytes.
ALIGNMENT = 16

#: In x, y and z.
_Sizes = tuple[int, int, int]

# HIP counts the work-items of a launch in 32 bits.
_MOST_WORK_ITEMS = 2**32 - 1


def accept_gpu(text: str, request: Request, target: Target) -> GpuKernel | GpuSequence:
    """Take the kernel out of the MLIR of the hal phase, if MIGraphX can launch it.

    MIGraphX's gpu::code_object gets one 8-byte pointer an input, a number of work-items and a workgroup size in x, and
    nothing else (src/targets/gpu/code_object_op.cpp); with patches/, in y and z as well, and local memory.

    Raises:
        Refusal: with the Reason of the first condition that does not hold.
    """
    function = read_hal(text, request.symbol)
    if function.operands + function.results != request.arguments:
        raise Refusal(
            Reason.BAD_COMPILER_OUTPUT,
            f"the function takes {function.operands} operands and {function.results} result buffers, "
            f"not {request.arguments} together",
        )
    _check_steps(function)
    dispatches = function.dispatches
    executables = {dispatch.executable for dispatch in dispatches}
    if len(executables) != 1:
        raise Refusal(Reason.MULTI_DISPATCH, f"in {len(executables)} code objects: {', '.join(sorted(executables))}")
    binaries = function.binaries.get(dispatches[0].executable, ())
    if len(binaries) != 1:
        raise Refusal(
            Reason.BAD_COMPILER_OUTPUT, f"{len(binaries)} binaries of {dispatches[0].executable} instead of one"
        )
    code_object = binaries[0]
    if len(function.steps) == 1:
        operands = tuple(_region(binding, function).buffer for binding in dispatches[0].bindings)
        results = list(range(function.operands, request.arguments))
        if [each for each in sorted(operands) if each >= function.operands] != results:
            where = f"the pointers are to the arguments {list(operands)}"
            raise Refusal(Reason.PARTIAL_BINDING, f"{where}, not to each result once")
        if all(binding.offset == 0 for binding in dispatches[0].bindings):
            return check_code_object(
                code_object,
                dispatches[0].function,
                _grid(dispatches[0]),
                operands,
                target,
                dispatches[0].local_memory,
            )
    temporaries = tuple(_known(size) for size in function.transients)
    steps = tuple(_step(step, function, code_object, target) for step in function.steps)
    sequence = GpuSequence(request.symbol, code_object, steps, request.arguments, function.results, temporaries)
    missing = set(range(function.operands, request.arguments)) - set(sequence.operands)
    if missing:
        raise Refusal(Reason.PARTIAL_BINDING, f"nothing is written to the arguments {sorted(missing)}")
    return check_sequence(sequence, target)


def check_code_object(
    code_object: bytes,
    symbol: str,
    workgroups: _Sizes,
    operands: tuple[int, ...],
    target: Target,
    dynamic_lds: int = 0,
) -> GpuKernel:
    """Check a code object against its launch and the device, and put both together.

    Raises:
        Refusal: it does not hold the kernel, or needs what MIGraphX does not give or the device has not.
    """
    resources, (size, *size_yz) = _check_launch(
        read_code_object(code_object), symbol, workgroups, len(operands), target, dynamic_lds
    )
    grid, *grid_yz = workgroups
    return GpuKernel(symbol, code_object, grid, size, resources, operands, _pair(grid_yz), _pair(size_yz), dynamic_lds)


def check_sequence(sequence: GpuSequence, target: Target) -> GpuSequence:
    """Check the launches of a sequence as `check_code_object` does one.

    Raises:
        Refusal: as `check_code_object`, or a region is not inside of its buffer.
    """
    contents = read_code_object(sequence.code_object)
    for launch in sequence.launches:
        grid = (launch.workgroups, *launch.workgroups_yz)
        found, _ = _check_launch(contents, launch.symbol, grid, len(launch.pointers), target, launch.dynamic_lds)
        if found != launch.resources:
            raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"{launch.symbol} is not the kernel that it was")
    for region in sequence.regions:
        if region.offset % ALIGNMENT:
            raise Refusal(Reason.PARTIAL_BINDING, f"a pointer is to byte {region.offset} of buffer {region.buffer}")
        temporary = region.buffer - sequence.arguments
        if temporary >= 0 and region.offset + region.size > sequence.temporaries[temporary]:
            raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"{region} is not inside of its buffer")
    return sequence


def _check_launch(
    contents: CodeObject, symbol: str, workgroups: _Sizes, pointers: int, target: Target, dynamic_lds: int
) -> tuple[KernelResources, _Sizes]:
    """What one kernel of a code object asks for, once it is seen that MIGraphX and the device can give it.

    Returns:
        Its resources, and the work-items of a workgroup in x, y and z.
    """
    if contents.target_id != target.target_id:
        raise Refusal(Reason.WRONG_TARGET, f"the code object is for {contents.target_id}, not {target.target_id}")
    kernel = next((kernel for kernel in contents.kernels if kernel.name == symbol), None)
    if kernel is None:
        names = [kernel.name for kernel in contents.kernels]
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"the code object has the kernels {names} instead of {symbol}")
    if workgroups[1:] != (1, 1) and not target.any_grid:
        raise Refusal(Reason.GRID_NOT_1D, f"{_text(workgroups)} workgroups")
    sizes = _workgroup_size(kernel)
    if sizes[1:] != (1, 1) and not target.any_grid:
        raise Refusal(Reason.BLOCK_NOT_1D, f"{_text(sizes)} work-items")
    if any(count * size > _MOST_WORK_ITEMS for count, size in zip(workgroups, sizes, strict=True)):
        many = f"{_text(workgroups)} workgroups of {_text(sizes)} work-items"
        raise Refusal(Reason.GRID_NOT_1D, f"{many} are too many for one launch")
    if dynamic_lds and not target.any_grid:
        raise Refusal(Reason.LDS_LIMIT, f"the launch has to give {dynamic_lds} bytes, and MIGraphX's gives none")
    lds = kernel.lds + dynamic_lds
    if lds > target.lds:
        raise Refusal(Reason.LDS_LIMIT, f"{lds} bytes; a workgroup on {target} has {target.lds}")
    for index, argument in enumerate(kernel.arguments):
        if not argument.is_pointer_at(index):
            raise Refusal(
                Reason.SCALAR_ARGUMENTS,
                f"argument {index} is {argument.kind}, {argument.size} bytes at offset {argument.offset}",
            )
    if len(kernel.arguments) != pointers:
        raise Refusal(
            Reason.SCALAR_ARGUMENTS, f"the kernel takes {len(kernel.arguments)} pointers, the dispatch {pointers}"
        )
    resources = KernelResources(
        symbol=symbol,
        workgroups=workgroups[0],
        workgroup_size=sizes[0],
        lds_bytes=kernel.lds,
        vgprs=kernel.vgprs,
        agprs=kernel.agprs,
        sgprs=kernel.sgprs,
        spills=kernel.spills,
        wavefront=kernel.wavefront,
        launches=1,
    )
    return resources, sizes


def accept_host(vmfb: bytes, request: Request) -> HostKernel:
    """Check that IREE's runtime can load a module and finds the function in it.

    Raises:
        Refusal: BAD_COMPILER_OUTPUT, where it can't.
    """
    # Importing the runtime takes an eighth of a second, and this process will need it to run the kernel anyway.
    from iree.runtime import VmInstance, VmModule

    try:
        functions = VmModule.copy_buffer(VmInstance(), vmfb).function_names
    except ValueError as error:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"IREE's runtime can't load it: {error}") from error
    if request.symbol not in functions:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"the module has {functions}, not {request.symbol}")
    return HostKernel(request.symbol, vmfb)


def _check_steps(function: HalFunction) -> None:
    """See that the steps happen one after the other, once, and that there is a launch among them."""
    if not function.dispatches:
        if function.transfers:
            raise Refusal(
                Reason.FILL_OR_COPY, f"nothing but {', '.join(each.operation for each in function.transfers)}"
            )
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, "the function does nothing on the device")
    for step in function.steps:
        name = step.function if isinstance(step, Dispatch) else step.operation
        if step.conditional or function.executions != 1:
            raise Refusal(Reason.MULTI_DISPATCH, f"{name} may run more than once, or not at all")
        if isinstance(step, Dispatch) and step.constants:
            raise Refusal(Reason.PUSH_CONSTANTS, f"{name} takes {step.constants}")


def _step(step: Dispatch | Transfer, function: HalFunction, code_object: bytes, target: Target) -> Launch | Fill | Copy:
    if isinstance(step, Dispatch):
        grid = _grid(step)
        resources, (size, *yz) = _check_launch(
            read_code_object(code_object), step.function, grid, len(step.bindings), target, step.local_memory
        )
        pointers = tuple(_region(binding, function) for binding in step.bindings)
        wide = _pair(grid[1:]), _pair(yz)
        return Launch(step.function, grid[0], size, resources, pointers, *wide, step.local_memory)
    if step.target is not None and step.source is not None:
        return Copy(_region(step.source, function), _region(step.target, function))
    # MIGraphX's hip::fill has no other use, and asserts that there is none (src/targets/gpu/hip.cpp).
    if step.target is not None and step.pattern == 0:
        return Fill(_region(step.target, function))
    raise Refusal(Reason.FILL_OR_COPY, f"{step.operation}, for which MIGraphX has no operator")


def _grid(dispatch: Dispatch) -> _Sizes:
    x, y, z = dispatch.workgroups
    if x is None or y is None or z is None:
        raise Refusal(Reason.DYNAMIC_GRID, f"the workgroups of {dispatch.function} depend on values of a run")
    return x, y, z


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    y, z = sizes
    return y, z


def _text(sizes: _Sizes) -> str:
    return " x ".join(map(str, sizes))


def _region(binding: Binding, function: HalFunction) -> Region:
    if binding.argument is not None:
        buffer = binding.argument
    elif binding.transient is not None:
        buffer = function.operands + function.results + binding.transient
    else:
        raise Refusal(Reason.PARTIAL_BINDING, f"a pointer is to no argument but to a {binding.origin}")
    if binding.offset is None:
        raise Refusal(Reason.PARTIAL_BINDING, f"a pointer is to an offset of the run of buffer {buffer}")
    return Region(buffer, binding.offset, _known(binding.size))


def _known(size: int | None) -> int:
    if size is None:
        raise Refusal(Reason.PARTIAL_BINDING, "the size of a buffer depends on values of a run")
    return size


def _workgroup_size(kernel: KernelMetadata) -> _Sizes:
    if kernel.workgroup_size is None:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"{kernel.name} does not say what workgroup it needs")
    return kernel.workgroup_size
