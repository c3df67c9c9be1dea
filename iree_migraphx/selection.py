"""Which subgraphs the user wants on IREE: patterns over their names, operators and shapes."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import OptionError, Reason, Refusal

#: What a condition may be about, in the words of the report (docs/report.md).
FIELDS = ("name", "anchor", "operator", "input", "output", "key")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Conditions that all have to hold, each of the form `field=glob`; without a field it is about the name.

    Attributes:
        text: as it was written.
        conditions: field and glob of each.
    """

    text: str
    conditions: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Understand "dot_*", "operator=softmax", "anchor=convolution & output=1x64x*".

        Raises:
            OptionError: a field that is not one of FIELDS, or a condition without a glob.
        """
        conditions = []
        for condition in text.split("&"):
            field, equals, glob = condition.partition("=")
            field, glob = (field.strip(), glob.strip()) if equals else ("name", field.strip())
            if field not in FIELDS:
                known = did_you_mean(field, FIELDS) or f"; known are {', '.join(FIELDS)}"
                raise OptionError(f"the pattern {text!r} is about {field!r}, which no subgraph has{known}")
            if not glob:
                raise OptionError(f"the pattern {text!r} has a condition without anything to match")
            conditions.append((field, glob))
        return cls(text, tuple(conditions))

    def matches(self, subgraph: Mapping[str, Sequence[str]]) -> bool:
        """Whether a subgraph is meant, given its texts by field: of several, one has to match."""
        return all(any(fnmatch.fnmatchcase(text, glob) for text in subgraph[field]) for field, glob in self.conditions)


def exclusion(
    subgraph: Mapping[str, Sequence[str]], include: Sequence[Pattern], exclude: Sequence[Pattern]
) -> Refusal | None:
    """Why a subgraph is not wanted: a pattern of `exclude` means it, or there are some in `include` and none does."""
    for pattern in exclude:
        if pattern.matches(subgraph):
            return Refusal(Reason.EXCLUDED, f"exclude has {pattern.text!r}")
    if include and not any(pattern.matches(subgraph) for pattern in include):
        return Refusal(Reason.EXCLUDED, "include has no pattern for it")
    return None
