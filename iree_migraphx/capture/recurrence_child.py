"""The process in which MIGraphX writes recurrent layers out; its arguments are a program's file and the result's.

MIGraphX reads the variable that names the passes to leave out once per process; so this is never the user's process.
"""

from __future__ import annotations

import sys

from iree_migraphx import binding
from iree_migraphx.capture.helper import serve


def _unroll(source: str, result: str) -> None:
    program = binding.load(source)
    program.compile(binding.get_target("ref"))
    binding.save(program, result)


if __name__ == "__main__":
    sys.exit(serve(lambda: _unroll(*sys.argv[1:])))
