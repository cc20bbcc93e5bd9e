"""``metarl list``: the families, grouped by what varies between tasks, and the agents."""

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
from metarl.envs.custom.loading import locate
from metarl.envs.suites import SUITES
from metarl.errors import check_names
from metarl.experiments.publish.runs import published_agents
from metarl.experiments.runs.learners import find_learner, find_preset


def show(name: str | None = None, tasks: str | None = None) -> None:
    """Print all names, or the details of one.

    Args:
        name: A group of families, a family or an agent; None prints the names. An agent of your own
            is ``module:Class``.
        tasks: A family, whose preset of the agent is shown instead of the agent's defaults.

    Raises:
        ValueError: If the name is unknown, or ``tasks`` is given and the name is no agent.
    """
    console = Console(highlight=False)
    if name is not None and (tasks is not None or name in AGENTS or locate(name)):
        _show_agent(console, name, tasks)
        return
    families = {family: envs.make(family) for family in envs.names()}
    groups = list(dict.fromkeys(tasks.varying_factor for tasks in families.values()))
    if name is None:
        _show_names(console, families, groups)
        return
    if name not in families:
        check_names([name], [*groups, *AGENTS], "group or agent")
    rows = [
        (family, ", ".join(tasks.splits), str(tasks.episodes_per_trial), tasks.description)
        for family, tasks in families.items()
        if name in (family, tasks.varying_factor)
    ]
    title = f"the family {name}" if name in families else f"families whose tasks vary in {name}"
    headings = ("name", "splits", "episodes", "description")
    console.print(_table(title, headings, rows))


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
    console.print(f"\nSplits and descriptions: metarl list VARIES, as in metarl list {groups[0]}")
    console.print("Views of any of them: train with --oracle, --num-train-tasks or --train-split")
    console.print("Your own: a module and a family in it, for example my_package.my_module:tasks")
    for extra, (_, others) in SUITES.items():
        install = escape(f"pip install 'metarl-suite[{extra}]'")
        console.print(f"With {install}: {', '.join(others)}")
    for name, agent_class in AGENTS.items():
        console.print(f"\n[bold]agent {name}[/bold]: details with metarl list {name}")
        console.print(", ".join(agent_class.hyperparameter_names()))
    console.print("\n[bold]published agents[/bold]: metarl evaluate NAME, watch, compare")
    console.print(", ".join(published_agents()))


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
