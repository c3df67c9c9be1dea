"""The code blocks of README and docs/, and what is to be done with each.

A comment in front of a block says what is out of the ordinary:
  <!-- file: NAME -->     the block is the content of a file
  <!-- fails: TEXT -->    it ends with an error that says TEXT
  <!-- virtual gpu -->    it runs on the virtual GPU
  <!-- torch -->          tests/hook/test_torch.py runs it
  <!-- not run: WHY -->   only its syntax is checked, since what it needs is not here
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]+?) -->\n)?(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$", re.M | re.S
)
_MARKS = ("file", "fails", "virtual gpu", "torch", "not run")


@dataclass(frozen=True)
class Snippet:
    """One block.

    Attributes:
        page: its file's name.
        mark: what the comment in front of it says, and `detail` what is behind its colon.
    """

    page: str
    language: str
    text: str
    mark: str = ""
    detail: str = ""


def snippets(page: Path) -> list[Snippet]:
    """The fenced blocks of a page, in order."""
    return parse(page.name, page.read_text(encoding="utf-8"))


def parse(name: str, text: str) -> list[Snippet]:
    """The fenced blocks of a page's text, in order."""
    found = []
    for match in _BLOCK.finditer(text):
        mark, _, detail = (match["mark"] or "").partition(": ")
        if mark and mark not in _MARKS:
            raise ValueError(f"{name}: nobody knows what <!-- {match['mark']} --> means")
        found.append(Snippet(name, match["language"], match["text"], mark, detail))
    return found


def indented(page: Path) -> list[str]:
    """Lines of code blocks that are only indented, which nobody would run."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"(?:\A|\n)\n {4}(\S.*)", text)


def commands(snippet: Snippet) -> list[list[str]]:
    """The words of each command of ours in a block of bash, without settings in front and comments behind."""
    lines = snippet.text.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    plain = [[word for index, word in enumerate(words) if not _setting(words[: index + 1])] for words in split]
    return [words for words in plain if words]


def _setting(words: list[str]) -> bool:
    return all(re.match(r"[A-Z_]+=", word) for word in words)
