"""The names of ROCm's module on the gpu target: values on the GPU, and compile in place."""

import ml_dtypes
import numpy as np
import pytest

from gpu import nets
from gpu.harness import compiled
from gpu.test_programs import TOLERANCE, inputs_of
from iree_migraphx import binding
from iree_migraphx.dropin import own
from iree_migraphx.errors import MigraphxError
from iree_migraphx.options import Options
from splice.models import expected


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8])
def test_values_go_to_the_gpu_and_back(virtual_device, dtype, host):
    own.get_target("gpu")
    array = np.arange(12).astype(dtype).reshape(3, 4).T
    with virtual_device.expect_no_leaks():
        there = own.to_gpu(own.argument(array), host)
        assert there.data_ptr() != array.ctypes.data
        assert there.get_shape() == own.argument(array).get_shape()
        back = own.from_gpu(there)
        own.gpu_sync()
        del there
    np.testing.assert_array_equal(np.asarray(back), array)


def test_an_allocated_value_has_room(virtual_device):
    with virtual_device.expect_no_leaks():
        value = own.allocate_gpu(own.shape(type="half", lens=[5, 3]))
        assert np.asarray(own.from_gpu(value)).shape == (5, 3)
        empty = own.allocate_gpu(own.shape(type="half", lens=[0, 3]))
        assert empty.data_ptr()
        del value, empty


def test_no_room_is_an_error(virtual_device):
    with pytest.raises(MigraphxError, match=r"HIP can't allocate \d+ bytes: \w+"):
        own.allocate_gpu(own.shape(type="double", lens=[1 << 58]))


def test_a_program_is_compiled_in_place(virtual_device, kernel_options):
    onnx = nets.mlp()
    done = compiled(onnx, kernel_options, virtual_device)
    with virtual_device.expect_no_leaks():
        program = own.parse_onnx_buffer(onnx)
        options = Options(cache_dir=kernel_options.cache_dir, quiet=True, eligible="all")
        program.compile(own.get_target("gpu"), offload_copy=False, options=options)
        assert program.iree_report.swapped == program.iree_report.eligible == done.report.swapped > 0
        inputs = inputs_of(onnx)
        given = {name: own.to_gpu(own.argument(value)) for name, value in inputs.items()}
        shapes = program.get_parameter_shapes()
        given |= {name: own.allocate_gpu(shapes[name]) for name in shapes if name not in given}
        results = [np.asarray(own.from_gpu(result)) for result in program.run(given)]
        for mine, theirs in zip(results, expected(onnx, inputs), strict=True):
            np.testing.assert_allclose(mine, theirs, **TOLERANCE["float32"])
        later = program.run_async(given, 0)
        own.gpu_sync()
        for result, same in zip(later, results, strict=True):
            np.testing.assert_array_equal(np.asarray(own.from_gpu(result)), same)
        del program, given, later, result
    assert not isinstance(done.program, own.program)
    assert isinstance(done.program, binding.program)
