"""Code blocks of the documents, and what a comment before a block says of it.

A comment right before a fence marks the block: ``<!-- run -->`` has a block of shell commands run, not only
parsed; ``<!-- not run: REASON -->`` has a Python block compiled and its names looked up instead of run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.source_tree import ROOT, name_of

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^>]*?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_INLINE = re.compile(r"`(imglish [^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Args:
        path: Its document.
        line: Of its first line of code.
        language: As the fence says; empty for shell commands and trees.
        code: Its text.
        mark: What the comment before it says; empty where there is none.
    """

    path: Path
    line: int
    language: str
    code: str
    mark: str

    def __str__(self) -> str:
        return f"{name_of(self.path)}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """All fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            path, text.count("\n", 0, match.start("code")) + 1, match["language"], match["code"],
            (match["mark"] or "").strip(),
        )
        for match in _FENCE.finditer(text)
    ]  # fmt: skip


def python_blocks() -> list[Block]:
    """Those of Python in all documents."""
    return [block for path in DOCUMENTS for block in blocks_of(path) if block.language in ("python", "py")]


def shell_blocks() -> list[Block]:
    """Those that may hold commands in all documents."""
    known = ("", "sh", "bash", "shell", "console", "text")
    return [block for path in DOCUMENTS for block in blocks_of(path) if block.language in known]


def inline_commands(path: Path) -> list[tuple[int, str, bool]]:
    """Commands in running text and tables, with their lines, and whether it is a table."""
    found: list[tuple[int, str, bool]] = []
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fenced ^= line.startswith("```")
        if not fenced:
            found += [(number, command, line.startswith("|")) for command in _INLINE.findall(line)]
    return found


def commands_of(block: Block) -> list[tuple[int, str]]:
    """The commands of ``imglish`` in a block, with their lines; a backslash joins lines.

    What stands behind two spaces or ``#`` is a remark.
    """
    found: list[tuple[int, str]] = []
    joined, start = "", 0
    for number, line in enumerate(block.code.splitlines(), start=block.line):
        start = start or number
        joined += line.strip().removesuffix("\\").rstrip() + " "  # an indent is no remark
        if line.rstrip().endswith("\\"):
            continue
        command = re.split(r"\s{2,}|\s#", joined.strip().removeprefix("$ "), maxsplit=1)[0]
        command = re.sub(r"^(pip install uv && )?(uv run |(\S+ )*?-m (?=imglish ))", "", command)
        if command.startswith("imglish "):
            found.append((start, command))
        joined, start = "", 0
    return found
