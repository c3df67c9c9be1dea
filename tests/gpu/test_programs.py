"""Whole programs on the virtual GPU in which every launch is ours: the results are onnxruntime's."""

import numpy as np
import pytest
from gpu.harness import compiled, run_on_device
from splice.models import X, convolutions, expected


@pytest.mark.parametrize("offload_copy", [False, True])
def test_convolutions(virtual_device, kernel_options, offload_copy):
    onnx = convolutions(count=3)
    with virtual_device.expect_no_leaks():
        done = compiled(onnx, kernel_options, virtual_device, offload_copy)
        report = done.report
        assert (report.eligible, report.swapped, report.arch) == (3, 3, "mi300x:sramecc+:xnack-")
        (actual,) = run_on_device(done, virtual_device, {"x": X}, offload_copy)
        np.testing.assert_allclose(actual, expected(onnx, {"x": X})[0], rtol=1e-4, atol=1e-5)
        assert [launch.is_ours for launch in virtual_device.launches] == [True] * 3
        del done
