"""A report as one HTML page that needs no network: tables, time lines, and the program's graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iree_migraphx.report import Report

_PLACE = "/*REPORTS*/"


def page(reports: Sequence[Report]) -> str:
    """The page; of several reports the first is shown, and the others can be chosen."""
    template = resources.files("iree_migraphx").joinpath("page.html").read_text(encoding="utf-8")
    data = json.dumps([report.to_json() for report in reports], separators=(",", ":"), ensure_ascii=False)
    # Nothing in it may end the script element that it stands in.
    return template.replace(_PLACE, data.replace("<", "\\u003c"), 1)
