"""Folders for files that nobody needs afterwards."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(where: Path | None = None, prefix: str = "iree_migraphx-") -> Iterator[Path]:
    """A new folder that is removed at the end of the block, as far as the disk allows.

    tempfile.TemporaryDirectory is not for that: where it may not remove a folder it calls itself without end, whatever
    its `ignore_cleanup_errors` says (seen in Python 3.11).

    Args:
        where: the folder to make it in; that of temporary files by default.
        prefix: the beginning of its name.

    Raises:
        OSError: it can't be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
