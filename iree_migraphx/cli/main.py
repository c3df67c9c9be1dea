"""The command `iree-migraphx`: reads the command line and hands over to a subcommand."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from iree_migraphx.cli import cache, capture, precompile
from iree_migraphx.errors import IreeMigraphxError

#: Exit status for what the user can put right: a wrong argument, setting or model.
USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        arguments: the command line without the command itself; this process's own by default.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser("iree-migraphx", description="IREE writes the kernels of MIGraphX's subgraphs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (cache, capture, precompile):
        command.register(commands)
    parsed = parser.parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except IreeMigraphxError as error:
        print(f"iree-migraphx: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
