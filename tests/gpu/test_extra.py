"""With `extra`, and kernels of the smallest rests as well: models of which nothing is left to MIGraphX."""

from functools import partial

import numpy as np
import pytest

from gpu.harness import compiled, run_on_device
from gpu.test_models import MAGIKA, magika
from iree_migraphx.lowering import forms
from splice.models import expected


@pytest.mark.timeout(0)
@pytest.mark.parametrize("offload_copy", [False, True], ids=["device", "offload"])
def test_a_whole_model_is_ours(virtual_device, kernel_options, monkeypatch, offload_copy):
    """Magika's network: gather, layer norms, convolutions and dots, a maximum and a softmax."""
    monkeypatch.setattr(forms, "rules", partial(forms.rules, least_work=0))
    done = compiled(magika(), kernel_options, virtual_device, offload_copy, extra=True)
    assert done.report.swapped == done.report.eligible, done.report.summary()
    assert len(done.launches()) == sum(i.name.startswith("gpu::") for i in done.instructions().instructions())
    inputs = {"bytes": np.random.default_rng(0).integers(0, 257, (1, 2048), np.int32)}
    (actual,) = run_on_device(done, virtual_device, inputs, offload_copy)
    (wanted,) = expected(MAGIKA.read_bytes(), inputs)
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
    assert all(launch.computed for launch in virtual_device.launches)
