"""The documentation as data: its pages, and the blocks of code on them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = (README, *sorted(DOCS.rglob("*.md")))

_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: The page.
        language: What stands after the fence.
        code: The lines between the fences.
        mark: The comment on the line before, as ``example: name.py`` or ``not run: reason``.
    """

    page: Path
    language: str
    code: str
    mark: str

    @property
    def example(self) -> str | None:
        """The name of an example that a test runs."""
        return self.mark.removeprefix("example: ") if self.mark.startswith("example: ") else None

    @property
    def is_run(self) -> bool:
        """Whether it does not say why it is not run."""
        return not self.mark.startswith("not run: ")

    def __str__(self) -> str:
        return f"{self.page.name}: {self.code.strip().splitlines()[0]}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page in some languages."""
    found = [Block(page, m[2], m[3], m[1] or "") for m in _BLOCK.finditer(page.read_text())]
    return [block for block in found if block.language in languages]


def example(name: str, page: Path) -> str:
    """Return the code of an example."""
    (code,) = (block.code for block in blocks(page, "python") if block.example == name)
    return code
