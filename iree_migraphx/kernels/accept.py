"""Whether MIGraphX can launch what IREE made: one kernel, pointers only, one grid and one workgroup dimension."""

from __future__ import annotations

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.code_object import KernelMetadata, read_code_object
from iree_migraphx.kernels.hal import Dispatch, HalFunction, read_hal
from iree_migraphx.kernels.model import GpuKernel, HostKernel, Request
from iree_migraphx.kernels.targets import Target
from iree_migraphx.report import KernelResources

# HIP counts the work-items of a launch in 32 bits.
_MOST_WORK_ITEMS = 2**32 - 1


def accept_gpu(text: str, request: Request, target: Target) -> GpuKernel:
    """Take the kernel out of the MLIR of the hal phase, if MIGraphX can launch it.

    MIGraphX's gpu::code_object gets one 8-byte pointer an input, a number of work-items and a workgroup size in x, and
    nothing else (src/targets/gpu/code_object_op.cpp).

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
    dispatch = _only_dispatch(function)
    workgroups = _grid(dispatch)
    operands = _operands(dispatch, function)
    binaries = function.binaries.get(dispatch.executable, ())
    if len(binaries) != 1:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"{len(binaries)} binaries of {dispatch.executable} instead of one")
    return check_code_object(binaries[0], dispatch.function, workgroups, operands, target)


def check_code_object(
    code_object: bytes, symbol: str, workgroups: int, operands: tuple[int, ...], target: Target
) -> GpuKernel:
    """Check a code object against its launch and the device, and put both together.

    Raises:
        Refusal: it holds another kernel, or more than one, or needs what MIGraphX does not give or the device has not.
    """
    contents = read_code_object(code_object)
    if contents.target_id != target.target_id:
        raise Refusal(Reason.WRONG_TARGET, f"the code object is for {contents.target_id}, not {target.target_id}")
    names = [kernel.name for kernel in contents.kernels]
    if names != [symbol]:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"the code object has the kernels {names} instead of {symbol}")
    kernel = contents.kernels[0]
    size = _workgroup_size(kernel)
    if workgroups * size > _MOST_WORK_ITEMS:
        raise Refusal(Reason.GRID_NOT_1D, f"{workgroups} workgroups of {size} work-items are too many for one launch")
    if kernel.lds > target.lds:
        raise Refusal(Reason.LDS_LIMIT, f"{kernel.lds} bytes; a workgroup on {target} has {target.lds}")
    for index, argument in enumerate(kernel.arguments):
        if not argument.is_pointer_at(index):
            raise Refusal(
                Reason.SCALAR_ARGUMENTS,
                f"argument {index} is {argument.kind}, {argument.size} bytes at offset {argument.offset}",
            )
    if len(kernel.arguments) != len(operands):
        raise Refusal(
            Reason.SCALAR_ARGUMENTS, f"the kernel takes {len(kernel.arguments)} pointers, the dispatch {len(operands)}"
        )
    resources = KernelResources(
        symbol=symbol,
        workgroups=workgroups,
        workgroup_size=size,
        lds_bytes=kernel.lds,
        vgprs=kernel.vgprs,
        agprs=kernel.agprs,
        sgprs=kernel.sgprs,
        spills=kernel.spills,
        wavefront=kernel.wavefront,
    )
    return GpuKernel(symbol, code_object, workgroups, size, resources, operands)


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


def _only_dispatch(function: HalFunction) -> Dispatch:
    count = len(function.dispatches)
    if count > 1:
        raise Refusal(Reason.MULTI_DISPATCH, f"{count}: {', '.join(each.function for each in function.dispatches)}")
    if function.transfers:
        raise Refusal(Reason.FILL_OR_COPY, ", ".join(function.transfers))
    if not count:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, "the function does nothing on the device")
    dispatch = function.dispatches[0]
    if dispatch.conditional or function.executions != 1:
        raise Refusal(Reason.MULTI_DISPATCH, f"{dispatch.function} may run more than once, or not at all")
    if dispatch.constants:
        raise Refusal(Reason.PUSH_CONSTANTS, f"{dispatch.function} takes {dispatch.constants}")
    return dispatch


def _grid(dispatch: Dispatch) -> int:
    x, y, z = dispatch.workgroups
    if x is None or y is None or z is None:
        raise Refusal(Reason.DYNAMIC_GRID, f"the workgroups of {dispatch.function} depend on values of a run")
    if (y, z) != (1, 1):
        raise Refusal(Reason.GRID_NOT_1D, f"{x} x {y} x {z} workgroups")
    return x


def _operands(dispatch: Dispatch, function: HalFunction) -> tuple[int, ...]:
    """The argument behind each pointer: IREE orders operands by their use in the dispatch and drops unused ones."""
    arguments = []
    for index, binding in enumerate(dispatch.bindings):
        if binding.argument is None:
            raise Refusal(Reason.PARTIAL_BINDING, f"pointer {index} is to no argument but to a {binding.origin}")
        if binding.offset != 0:
            where = "an offset of the run" if binding.offset is None else f"byte {binding.offset}"
            raise Refusal(Reason.PARTIAL_BINDING, f"pointer {index} is to {where} of argument {binding.argument}")
        arguments.append(binding.argument)
    results = list(range(function.operands, function.operands + function.results))
    if not results or sorted(each for each in arguments if each >= function.operands) != results:
        raise Refusal(Reason.PARTIAL_BINDING, f"the pointers are to the arguments {arguments}, not to each result once")
    return tuple(arguments)


def _workgroup_size(kernel: KernelMetadata) -> int:
    if kernel.workgroup_size is None:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"{kernel.name} does not say what workgroup it needs")
    x, y, z = kernel.workgroup_size
    if (y, z) != (1, 1):
        raise Refusal(Reason.BLOCK_NOT_1D, f"{x} x {y} x {z} work-items")
    return x
