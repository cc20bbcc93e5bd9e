"""Directives for what must not be typed: facts about families, hyperparameters, presets, records.

Each one asks the code, or another page, when the site is built, and returns a table.
"""

import importlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from metarl import Choice, Dirichlet, LogUniform, Normal, Parameter, TaskDistribution, Uniform, envs
from metarl.agents.training.config import describe
from metarl.envs.registry import FAMILIES, gymnasium_id

DOCS = Path(__file__).parents[1]
PUBLIC = ("metarl", "metarl.envs", "metarl.agents", "metarl.data")
"""The modules whose names users import."""
_LONGEST = 100  # characters of a value in a table

Cells = Sequence[str]


def as_table(head: Cells, rows: Iterable[Cells], widths: Sequence[int] | None = None) -> str:
    """Return a table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1"]
    lines += [f"   :widths: {' '.join(map(str, widths))}"] if widths else []
    lines.append("")
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines)


def literal(value: Any) -> str:
    """Return a value as code."""
    return f"``{value}``"


def object_at(path: str) -> Any:
    """Return the object at ``module.name``."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


class Generated(SphinxDirective):
    """Base: a directive whose content is written in reStructuredText."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.write())

    def write(self) -> str:
        """Return what stands in the directive's place."""
        raise NotImplementedError


# Families.


def is_short(value: Any) -> bool:
    """Return whether a value fits into a sentence."""
    return isinstance(value, int | float | str | tuple) and len(str(value)) < _LONGEST


def in_words(parameter: Parameter) -> str:
    """Describe a distribution as papers do."""
    match parameter:
        case Choice(values=(only,)):
            return f"always {only}"
        case Choice(values=values):
            text = f"one of {', '.join(map(str, values))}"
            return text if len(text) <= _LONGEST else f"one of {len(values)} values"
        case LogUniform(low=low, high=high):
            text = f"log-uniform({low:.4g}, {high:.4g})"
        case Uniform(low=low, high=high):
            text = f"U({low:.4g}, {high:.4g})"
        case Normal(mean=mean, std=std):
            text = f"N({mean:.4g}, {std:.4g}²)"
        case Dirichlet(concentration=concentration):
            text = f"Dirichlet({concentration:g})"
        case _ if str(parameter) != repr(parameter):
            return str(parameter).removeprefix("the rule that ")
        case _ if not is_dataclass(parameter):
            return literal(repr(parameter))
        case _:
            text = " ".join(str(type(parameter).__doc__).split(".\n")[0].split()).rstrip(".")
            values = {field.name: getattr(parameter, field.name) for field in fields(parameter)}
            options = [f"{k} {v}" for k, v in values.items() if k != "shape" and is_short(v)]
            return f"{text[0].lower()}{text[1:]}" + (f" ({', '.join(options)})" if options else "")
    shape = parameter.shape
    return f"{text}, shape {shape}" if shape else text


def space_in_words(space: Any) -> str:
    """Describe a space by what sets it apart: kind, size and bounds, if these are the same."""
    kind = type(space).__name__
    if kind == "Dict":
        return ", ".join(f"``{name}``: {space_in_words(part)}" for name, part in space.items())
    if kind != "Box":
        return literal(space)
    low, high = np.unique(space.low), np.unique(space.high)
    size = " x ".join(map(str, space.shape))
    if len(low) == len(high) == 1 and np.isfinite(space.low).all():
        return f"``Box({size})``, {low[0]:.4g} to {high[0]:.4g}"
    return f"``Box({size})``"


def split_in_words(tasks: TaskDistribution, split: str) -> str:
    """Describe what a split draws."""
    sampler = tasks.sampler(split)
    count = sampler.num_tasks
    if count is not None:
        return (
            f"{count:,} task{'s' if count > 1 else ''}" if count < 10**9 else f"{count:.0e} tasks"
        )
    given = getattr(sampler, "parameters", None)
    if given is None:
        return "continuum"
    other = [f"{n} {in_words(p)}" for n, p in given.items() if p != tasks.parameters[n]]
    return "; ".join(other) or "as on the left"


def splits_in_words(tasks: TaskDistribution) -> str:
    """Describe all splits, those that draw alike together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for split in tasks.splits:
        groups[split_in_words(tasks, split)].append(literal(split))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in groups.items())


class Families(Generated):
    """``.. families:: NAME ...``: spaces, horizon, parameters and splits of families."""

    def write(self) -> str:
        first, second = [], []
        for name in self.arguments[0].split():
            if name not in FAMILIES:
                raise self.error(f"unknown family {name!r}")
            tasks = envs.make(name)
            env = tasks.make_vec(1)
            first.append(
                (
                    literal(name),
                    space_in_words(env.single_observation_space),
                    space_in_words(env.single_action_space),
                    str(env.horizon),
                    str(tasks.episodes_per_trial),
                    literal(gymnasium_id(name)),
                )
            )
            parameters = "; ".join(
                f"``{key}``: {in_words(value)}" for key, value in tasks.parameters.items()
            )
            shared = "; held-out tasks are training tasks" if tasks.shares_tasks else ""
            second.append((literal(name), parameters, splits_in_words(tasks) + shared))
            env.close()
        head = ("family", "observation", "action", "steps", "episodes", "Gymnasium id")
        text = as_table(head, first, (20, 20, 18, 8, 10, 24))
        drawn = as_table(("family", "a task is", "splits"), second, (18, 45, 37))
        return f"{text}\n\n{drawn}"


# Agents.


def brief(doc: str) -> str:
    """Return a docstring whose links show names without modules."""
    return re.sub(r"(:\w+:`)~?(?=[\w.]+`)", r"\1~", doc)


class Hyperparameters(Generated):
    """``.. hyperparameters:: PATH``: the fields of a configuration, with defaults and meaning."""

    def write(self) -> str:
        path = self.arguments[0]
        config_class = object_at(path)
        rows = [
            (literal(f.name), str(f.type), literal(json.dumps(f.default)), brief(f.doc))
            for f in describe(config_class)
        ]
        table = as_table(("name", "type", "default", "meaning"), rows, (22, 13, 13, 52))
        lines = "\n".join(f"   {line}" for line in table.splitlines())
        return f".. py:class:: {path}\n\n   {config_class.__doc__.strip()}\n\n{lines}"


class Presets(Generated):
    """``.. presets:: PATH NAME``: the presets of an agent."""

    def write(self) -> str:
        path, name = self.arguments[0].split()
        agent = object_at(path)
        rows = []
        for preset in agent.presets:
            if preset.agent != name:
                continue
            steps = preset.total_timesteps
            values = ", ".join(
                literal(f"{key}={json.dumps(value)}")
                for key, value in preset.hyperparameters.items()
            )
            amount = f"{steps:,}" if steps is not None else "those of RL² on the family"
            rows.append((literal(preset.pattern), amount, values or "the defaults"))
        return as_table(("families", agent.unit, "hyperparameters"), rows, (22, 16, 62))


# Tables of other pages.


def rows_of(page: str, marker: str) -> tuple[Cells, list[Cells]]:
    """Return head and rows of the first Markdown table after a text on a page."""
    text = (DOCS / page).read_text()
    table = text[text.index(marker) :].partition("|")[2].partition("\n\n")[0]
    lines = [line for line in f"|{table}".splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]
    return cells[0], cells[2:]


def to_rst(cell: str) -> str:
    """Return a cell of Markdown, with code alone, in reStructuredText."""
    return re.sub(r"`([^`]+)`", r"``\1``", cell)


class Logged(Generated):
    """``.. logged:: AGENT``: what an agent logs, of the table of all keys."""

    def write(self) -> str:
        _, rows = rows_of("logged.md", "| tag |")
        found = [
            (to_rst(tags), to_rst(meaning))
            for tags, agents, meaning in rows
            if self.arguments[0] in agents.split(", ")
        ]
        return as_table(("tag", "meaning"), found, (38, 62))


class Published(Generated):
    """``.. published::``: the runs of some families or of an agent, seeds in one row.

    The argument is a regular expression of ``FAMILY | AGENT`` in the table of all runs. Runs with
    hyperparameters other than the preset's are shown with the option ``:all:``.
    """

    option_spec: ClassVar[dict[str, Any]] = {"all": directives.flag}

    def write(self) -> str:
        _, rows = rows_of("results/runs.md", "<!-- results: begin -->")
        seeds: dict[tuple[str, str, str], list[Cells]] = defaultdict(list)
        for row in rows:
            family, agent, _, steps = row[:4]
            shown = "`" not in steps or "all" in self.options
            if shown and re.fullmatch(self.arguments[0], f"{family} | {agent}"):
                seeds[family, agent, to_rst(steps)].append(row)
        found = []
        for (family, agent, steps), runs in seeds.items():
            values = (", ".join(run[column].split(" (")[0] for run in runs) for column in (5, 6, 7))
            found.append((family, agent, steps, str(len(runs)), *values))
        if not found:
            raise self.error(f"no published run matches {self.arguments[0]!r}")
        head = ("family", "agent", "env steps", "seeds", "first episode", "last", "difference")
        return as_table(head, sorted(found))


# The public names.


class PublicNames(Generated):
    """``.. public-names:: MODULE``: links to all that a module exports."""

    def write(self) -> str:
        module = self.arguments[0]
        links = (f":py:obj:`~{module}.{name}`" for name in importlib.import_module(module).__all__)
        return ", ".join(links)


def check_public_names(app: Sphinx, env: Any) -> None:
    """Warn of public names without an entry: a link to them would lead nowhere."""
    entries = env.get_domain("py").objects
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            if f"{module}.{name}" not in entries:
                logging.getLogger(__name__).warning(f"{module}.{name} has no entry on any page")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("families", Families)
    app.add_directive("hyperparameters", Hyperparameters)
    app.add_directive("presets", Presets)
    app.add_directive("logged", Logged)
    app.add_directive("published", Published)
    app.add_directive("public-names", PublicNames)
    app.connect("env-check-consistency", check_public_names)
    return {"parallel_read_safe": True}
