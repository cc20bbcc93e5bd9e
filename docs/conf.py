"""The documentation as a site: ``sphinx-build docs docs/_build``, with the extra ``docs``."""

import itertools
import re
from typing import Any

from metarl import __version__

project = "metarl"
author = "the metarl authors"
copyright = f"2026, {author}"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
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
python_maximum_signature_line_length = 80  # longer ones have a line for each argument
napoleon_use_ivar = True  # attributes have no entries of their own besides the fields they describe


def as_list_table(rows: list[str]) -> list[str]:
    """Return a Markdown table, as manual pages of families have them, in reStructuredText."""
    cells = [[cell.strip() for cell in row.strip()[1:-1].split(" | ")] for row in rows]
    lines = ["", ".. list-table::", "   :widths: 1 5", ""]
    for first, *others in cells:
        lines.append(f"   * - {first}")
        lines += [f"     - {other}" for other in others]
    return [*lines, ""]


def to_restructured_text(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn what docstrings have of Markdown into what Sphinx reads, in place."""
    # Shapes such as (num_envs, *observation_shape) begin no emphasis.
    written = [re.sub(r"(?<=[(, ])\*(?=\w+[,)])", r"\\*", line) for line in lines]
    lines.clear()
    for is_table, group in itertools.groupby(written, lambda line: line.startswith("|")):
        rows = list(group)
        lines += as_list_table([row for row in rows if row.strip("|- ")]) if is_table else rows
    if what in ("attribute", "property") and ": " in lines[0]:
        # What stands before a colon, and something after it, is taken for a type.
        lines[:1] = re.sub(": ", ":\n", lines[0], count=1).split("\n")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", to_restructured_text, priority=400)  # before napoleon
