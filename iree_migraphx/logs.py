"""The package's logger on standard error, as much as IREE_DEBUG asks for."""

from __future__ import annotations

import logging

#: IREE_DEBUG -> level: 0 warnings, 1 what happens (each stage, each command), 2 everything (the compiler's output).
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

_handler: logging.Handler | None = None


def configure(debug: int) -> None:
    """Let the package's messages of level `debug` (IREE_DEBUG) through; a user's own handlers stay as they are."""
    global _handler
    logger = logging.getLogger("iree_migraphx")
    if _handler is None:
        _handler = logging.StreamHandler()
        _handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger.addHandler(_handler)
        logger.propagate = False
    logger.setLevel(LEVELS[debug])
