"""``metarl list``: the families, grouped by what varies between tasks, and the agents."""

import contextlib
import importlib.util
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metarl import TaskDistribution, envs
from metarl.agents import AGENTS
from metarl.agents.training.config import Config, describe
from metarl.envs.custom.loading import load_attribute, locate
from metarl.envs.suites import SUITES
from metarl.errors import InvalidValueError, check_names
from metarl.evaluation.tables import as_text
from metarl.experiments.cli.describing import (
    RELATIVES,
    agents,
    agents_of,
    facts,
    presets,
    published_runs,
)
from metarl.experiments.runs.learners import find_learner, find_preset


def show(name: str | None = None, tasks: str | None = None) -> None:
    """Print all names, or the details of one.

    Args:
        name: A group of families, a family, an agent, or ``agents`` for the published ones; None
            prints the names. An agent of your own is ``module:Class``, a family of your own
            ``module:tasks``.
        tasks: A family, whose preset of the agent is shown instead of the agent's defaults.

    Raises:
        ValueError: If the name is unknown, or ``tasks`` is given and the name is no agent.
    """
    console = Console(highlight=False)
    if name == "agents" and tasks is None:
        _show_published(console)
        return
    if name is not None and (tasks is not None or name in AGENTS or _is_class(name)):
        _show_agent(console, name, tasks)
        return
    if name is not None:
        one = None
        with contextlib.suppress(InvalidValueError):  # groups are no families
            one = envs.make(name)
        if one is not None:
            _show_family(console, name, one)
            return
    families = {family: envs.make(family) for family in envs.names()}
    groups = list(dict.fromkeys(tasks.varying_factor for tasks in families.values()))
    if name is None:
        _show_names(console, families, groups)
        return
    check_names([name], [*groups, *AGENTS, "agents", *families], "family, group or agent")
    rows = [
        (family, ", ".join(tasks.splits), str(tasks.episodes_per_trial), tasks.description)
        for family, tasks in families.items()
        if name == tasks.varying_factor
    ]
    headings = ("name", "splits", "episodes", "description")
    console.print(_table(f"families whose tasks vary in {name}", headings, rows))
    console.print(f"\nOne of them in full: metarl list NAME, as in metarl list {rows[0][0]}")


def _is_class(name: str) -> bool:
    return locate(name) is not None and isinstance(load_attribute(name), type)


def _show_names(
    console: Console, families: dict[str, TaskDistribution], groups: Sequence[str]
) -> None:
    rows = [
        (
            group,
            ", ".join(name for name, tasks in families.items() if tasks.varying_factor == group),
        )
        for group in groups
    ]
    title = "families of tasks, by what varies between tasks"
    console.print(_table(title, ("varies", "families"), rows))
    console.print(escape("\nAlso bandit-NxK, tabular-mdp-N, glyphs-Nway, image-folder:PATH"))
    for extra, (package, others) in SUITES.items():
        missing = f": pip install 'metarl-suite[{extra}]'"
        note = "" if importlib.util.find_spec(package) else missing
        console.print(escape(f"{', '.join(others)} ({extra}{note})"))
    console.print("Your own: a module and a family in it, for example my_package.my_module:tasks")
    console.print("Views of any of them: train with --oracle, --num-train-tasks or --train-split")
    summaries = [
        (name, (inspect.getdoc(kind) or "").partition("\n")[0].rstrip("."))
        for name, kind in AGENTS.items()
    ]
    console.print()
    console.print(_table("agents", ("name", ""), summaries))
    console.print("\nmetarl list FAMILY   spaces, reward, splits, presets, published runs")
    console.print("metarl list VARIES   a group of families, as in metarl list " + groups[0])
    console.print("metarl list AGENT    hyperparameters; metarl list AGENT FAMILY  a preset")
    console.print("metarl list agents   published agents, for metarl evaluate, watch and compare")


def _show_family(console: Console, name: str, tasks: TaskDistribution) -> None:
    title = f"{name}: {tasks.description or 'a family'}"
    console.print(_table(title, ("", ""), facts(name, tasks)))
    console.print()
    headings = ("agent", "env steps", "expected time", "hyperparameters")
    console.print(_table("presets, which metarl train uses", headings, presets(name, tasks)))
    console.print(f" {', '.join(RELATIVES)}: much as maml")
    console.print(f" in full: metarl list AGENT {name}")
    console.print(f" before a training: metarl train AGENT {name} --dry-run")
    if runs := published_runs(name):
        title = "published runs: mean return of first and last episode on held-out tasks"
        console.print(f"\n[bold]{title}[/bold]\n{escape(as_text(runs))}")
    if found := agents_of(name):
        console.print(f" agents, for metarl evaluate: {', '.join(found)}")


def _show_published(console: Console) -> None:
    console.print(f"[bold]published agents[/bold]\n{escape(as_text(agents()))}")
    console.print(" first, last: mean return of that adaptation episode on held-out tasks")
    console.print(" metarl evaluate NAME, metarl watch NAME, metarl compare NAME RUN")


def _show_agent(console: Console, name: str, tasks: str | None) -> None:
    agent_class = find_learner(name)
    preset = None if tasks is None else find_preset(name, envs.make(tasks))
    values = {} if preset is None else dict(preset.hyperparameters)
    policy = values.get("policy_kwargs", {})
    of = name if preset is None else f"{name} on {tasks}"
    head = "default" if preset is None else "preset"
    console.print(_options(f"hyperparameters of {of}", head, agent_class.config_class, values))
    if agent_class.policy_config_class is not None:
        console.print()
        title = f"policy_kwargs of {of}"
        console.print(_options(title, head, agent_class.policy_config_class, policy))
        for title, config_class in agent_class.policy_config_class.nested().items():
            console.print()
            console.print(_options(title, "default", config_class, {}))
    if preset is None:
        console.print(f"\nmetarl train uses a family's preset; show it: metarl list {name} TASKS")
    else:
        steps = f"{preset.total_timesteps:,} {agent_class.unit}"
        pattern = escape(preset.pattern)
        console.print(f"\nThis is the preset of {pattern}; it trains for {steps}")
    console.print("To change a value: metarl train ... --set NAME=VALUE, the value in JSON")
    if agent_class.policy_config_class is not None:
        console.print("Set policy_kwargs together: --set 'policy_kwargs={\"NAME\": VALUE}'")


def _options(title: str, head: str, config_class: type[Config], values: Mapping[str, Any]) -> Table:
    """Return a table of a configuration's fields: given values, otherwise defaults."""
    rows = [
        (f.name, f.type, json.dumps(values.get(f.name, f.default)), _plain(f.doc))
        for f in describe(config_class)
    ]
    return _table(title, ("name", "type", head, ""), rows)


def _plain(doc: str) -> str:
    """Return a docstring without markup."""
    return re.sub(r":\w+:`~?([^`]*)`|``", r"\1", doc)


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table with prose in the last column; words of the other columns are never cut."""
    table = Table(box=None, title=title, title_justify="left", title_style="bold")
    for heading, cells in zip(headings, zip(*rows)):
        word = max(len(word) for cell in (heading, *cells) for word in cell.split(" "))
        width = None if heading == headings[-1] else max(word, min(20, max(map(len, cells))))
        table.add_column(heading, header_style="bold", width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
