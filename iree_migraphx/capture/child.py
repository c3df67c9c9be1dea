"""The process in which MIGraphX optimises and fuses a program for the gpu and stops there: `child SOURCE RESULT …`.

MIGraphX reads the variable that names the passes to leave out once per process; so this is never the user's process.
"""

from __future__ import annotations

import os
import sys
import threading

from iree_migraphx import binding
from iree_migraphx.binding import device
from iree_migraphx.errors import IreeMigraphxError

#: Exit status where MIGraphX or the device said no, with the reason on standard error.
REFUSED = 3


def main(arguments: list[str]) -> int:
    """Compile the program SOURCE for the device number DEVICE (-1 for any) and save it as RESULT.

    Args:
        arguments: SOURCE, RESULT, DEVICE, OFFLOAD_COPY and FAST_MATH (0 or 1).
    """
    source, result, number, offload_copy, fast_math = arguments
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        target = binding.get_target("gpu")
        if int(number) >= 0:
            device.choose_device(int(number))
        program = binding.load(source)
        program.compile(target, offload_copy == "1", fast_math == "1")
        binding.save(program, result)
    except IreeMigraphxError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


def _end_with_parent() -> None:
    """Our standard input is closed when the process that started us ends, however it ends."""
    # Not through sys.stdin, whose lock Python wants when it ends.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
