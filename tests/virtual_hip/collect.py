"""Test files that need the virtual GPU: each runs in a process of its own, under the interpreter that has it.

A conftest.py of a folder of such files takes everything from here:

    from virtual_hip.collect import pytest_pycollect_makemodule, virtual_device  # noqa: F401
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtual_hip import hip
from virtual_hip.device import VirtualDevice


@pytest.fixture
def virtual_device() -> Iterator[VirtualDevice]:
    """A gfx942 on which nothing may be done wrong."""
    with VirtualDevice() as device:
        yield device
        device.check()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Under another interpreter, a file is one test: that it passes under the right one."""
    return None if hip.available() else OnVirtualGpu.from_parent(parent, path=module_path)


class OnVirtualGpu(pytest.Module):
    """A file of tests that this process does not import."""

    def collect(self) -> Iterator[pytest.Item]:
        yield WholeFile.from_parent(self, name="virtual_gpu")


class WholeFile(pytest.Item):
    """Runs pytest over the file. Its time limit is that of its tests, each by itself."""

    def __init__(self, name: str, parent: pytest.Collector) -> None:
        super().__init__(name, parent)
        self.add_marker(pytest.mark.timeout(0))

    def runtest(self) -> None:
        options = [f"--examples={count}"] if (count := self.config.getoption("--examples", None)) else []
        options += ["--whole-models"] if self.config.getoption("--whole-models", False) else []
        command = [str(hip.python()), "-m", "pytest", "-q", *options, str(self.path)]
        if not hip.python().exists():
            pytest.fail(f"there is no {hip.python()}; run ./setup.sh install_virtual_gpu", pytrace=False)
        run = subprocess.run(command, cwd=self.config.rootpath, capture_output=True, text=True, check=False)
        if run.returncode:
            pytest.fail(f"{' '.join(command)}\n{run.stdout}\n{run.stderr}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.name} on the virtual GPU"
