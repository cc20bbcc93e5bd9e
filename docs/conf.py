"""The documentation as a site: ``sphinx-build docs docs/_build``, with the extra ``docs``."""

import inspect
import itertools
import re
import sys
from pathlib import Path
from typing import Any

from metarl import __version__
from metarl.agents.training.config import describe
from metarl.agents.training.learner import Learner

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "metarl"
author = "the metarl authors"
copyright = f"2026, {author}"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "generated",
]
exclude_patterns = ["_build"]
# The page that runs an agent, and the published agent that it runs.
html_extra_path = ["try_it", "../experiments/results/runs/rl2-gridnavi-seed0.safetensors"]

html_theme = "furo"
html_title = f"metarl {version}"
html_copy_source = False

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
highlight_language = "none"  # docstrings hold pseudocode; blocks of pages name their language
napoleon_use_ivar = True  # attributes have no entries of their own besides the fields they describe


def as_list_table(rows: list[str]) -> list[str]:
    """Return a Markdown table, as manual pages of families have them, in reStructuredText."""
    cells = [[cell.strip() for cell in row.strip()[1:-1].split(" | ")] for row in rows]
    lines = ["", ".. list-table::", "   :widths: 1 5", ""]
    for first, *others in cells:
        lines.append(f"   * - {first}")
        lines += [f"     - {other}" for other in others]
    return [*lines, ""]


def without_hyperparameters(obj: Any, lines: list[str]) -> list[str]:
    """Return the docstring of an agent without its hyperparameters, which have a table."""
    config = getattr(obj, "config_class", None)
    if not (inspect.isclass(obj) and issubclass(obj, Learner) and config and "Args:" in lines):
        return lines
    start = lines.index("Args:") + 1
    # A continued line has more blanks.
    entries = re.split(r"\n(?=    \w)", "\n".join(lines[start:]))
    names = {field.name for field in describe(config)}
    kept = [entry for entry in entries if entry.strip().partition(":")[0] not in names]
    return [*lines[:start], *"\n".join(kept).split("\n")]


def shorten_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Show the hyperparameters of an agent, which have a table, as ``**hyperparameters``."""
    if not (what == "class" and inspect.isclass(obj) and issubclass(obj, Learner)):
        return None
    own = inspect.signature(Learner.__init__)
    shown = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in list(own.parameters.values())[1:]
    ]
    return str(own.replace(parameters=shown, return_annotation=own.empty)), returned


def to_restructured_text(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn what docstrings have of Markdown into what Sphinx reads, in place."""
    # Shapes such as (num_envs, *observation_shape) begin no emphasis.
    written = [
        re.sub(r"(?<=[(, ])\*(?=\w+[,)])", r"\\*", line)
        for line in without_hyperparameters(obj, lines)
    ]
    lines.clear()
    for is_table, group in itertools.groupby(written, lambda line: line.startswith("|")):
        rows = list(group)
        lines += as_list_table([row for row in rows if row.strip("|- ")]) if is_table else rows
    if what in ("attribute", "property") and ": " in lines[0]:
        # What stands before a colon, and something after it, is taken for a type.
        lines[:1] = re.sub(": ", ":\n", lines[0], count=1).split("\n")


# What the theme leaves out, for readers who use a keyboard or a screen reader.
ACCESSIBLE = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="all pages">',
    "<pre>": '<pre tabindex="0">',  # these two scroll sideways on a phone
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}


def make_accessible(app: Any, exception: Exception | None) -> None:
    """Complete the pages in place."""
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for old, new in ACCESSIBLE.items():
            text = text.replace(old, new)
        page.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", to_restructured_text, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("build-finished", make_accessible)
