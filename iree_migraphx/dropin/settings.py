"""How programs are compiled in place: what the hooks that are installed say."""

from __future__ import annotations

from dataclasses import dataclass, field

from iree_migraphx.options import Options
from iree_migraphx.report import Report


@dataclass
class Settings:
    """How programs are compiled in place from now on, and what became of those that were.

    Attributes:
        options: None takes those of the environment, at each compile.
        reports: one a compile, in order.
    """

    options: Options | None = None
    reports: list[Report] = field(default_factory=list)


#: Those of the hooks that are installed; the last one is in force.
stack: list[Settings] = []
