"""What the package says on standard error, as much of each stage as is asked for.

Each stage has a logger, `iree_migraphx.partition` for instance. What MIGraphX and iree-compile print themselves goes
through two of their own, so that it can be told apart, kept or left out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TextIO

from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import OptionError

#: IREE_DEBUG -> level: 0 warnings, 1 what happens (each stage, each command), 2 everything (the compiler's output).
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

#: What MIGraphX prints on standard error while a call of ours lasts: warnings.
FROM_MIGRAPHX = "iree_migraphx.from_migraphx"
#: What iree-compile prints on standard error: debug.
FROM_IREE = "iree_migraphx.from_iree"

#: Stage -> what its logger tells of; each also has what its modules say.
STAGES: Mapping[str, str] = {
    "binding": "MIGraphX's parse, save and compile",
    "capture": "MIGraphX's own optimisation, on the gpu",
    "ir": "reading, folding of constants, writing",
    "partition": "which subgraphs there are",
    "lowering": "the MLIR of each, or why there is none",
    "kernels": "the cache and each run of iree-compile",
    "splice": "putting kernels into the program",
    "pipeline": "what becomes of the whole",
    "from_migraphx": "MIGraphX's own words",
    "from_iree": "iree-compile's own words",
}
_NAMES = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_NAMES |= {"critical": logging.CRITICAL, "0": LEVELS[0], "1": LEVELS[1], "2": LEVELS[2]}

_handler: logging.Handler | None = None


def parse_levels(text: str) -> dict[str, int]:
    """Levels by stage, from "kernels=debug,partition=1"; a level is a name of `logging` or as in IREE_DEBUG.

    Raises:
        OptionError: no such stage or level, or another form.
    """
    levels = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        stage, equals, level = (word.strip() for word in part.partition("="))
        if not equals:
            raise OptionError(f"log (IREE_MIGRAPHX_LOG) has {part!r}, which is not of the form stage=level")
        if stage not in STAGES:
            hint = did_you_mean(stage, STAGES) or f"; there are {', '.join(STAGES)}"
            raise OptionError(f"log (IREE_MIGRAPHX_LOG) names the stage {stage!r}{hint}")
        if level.lower() not in _NAMES:
            hint = did_you_mean(level.lower(), _NAMES) or f"; there are {', '.join(_NAMES)}"
            raise OptionError(f"log (IREE_MIGRAPHX_LOG) gives {stage} the level {level!r}{hint}")
        levels[stage] = _NAMES[level.lower()]
    return levels


def configure(debug: int, stages: str = "") -> None:
    """Let messages through to standard error; a user's own handlers stay as they are.

    Args:
        debug: the level of every stage, as in IREE_DEBUG.
        stages: other levels for some, as `parse_levels` takes them.
    """
    global _handler
    logger = logging.getLogger("iree_migraphx")
    if _handler is None:
        _handler = _Stderr()
        _handler.setFormatter(_Lines("%(name)s: %(message)s"))
        logger.addHandler(_handler)
        logger.propagate = False
    logger.setLevel(LEVELS[debug])
    levels = parse_levels(stages)
    for stage in STAGES:
        logging.getLogger(f"iree_migraphx.{stage}").setLevel(levels.get(stage, logging.NOTSET))


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # Python 3.10 takes none
    """To what sys.stderr is at the time, which may be another than when the package was first used."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class _Lines(logging.Formatter):
    """The name before each line of others' words, which may be many."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name not in (FROM_MIGRAPHX, FROM_IREE):
            return super().format(record)
        return "\n".join(f"{record.name}: {line}" for line in record.getMessage().splitlines())
