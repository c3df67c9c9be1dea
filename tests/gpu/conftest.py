from virtual_hip.collect import pytest_pycollect_makemodule, virtual_device  # noqa: F401
