"""The process in which MIGraphX fuses a program for the gpu and stops there; its arguments are those of compile_file.

MIGraphX reads the variable that names the passes to leave out once per process; so this is never the user's process.
"""

from __future__ import annotations

import sys

from iree_migraphx.capture.helper import compile_file, serve

if __name__ == "__main__":
    sys.exit(serve(lambda: compile_file(*sys.argv[1:])))
