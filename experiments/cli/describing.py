"""One family of tasks in full: ``metarl list FAMILY``; and the published agents."""

import functools
import inspect
import json
import re
from contextlib import closing
from typing import Any

from metarl import TaskDistribution
from metarl.agents import AGENTS, MAML, FromScratch, OfflineLearner
from metarl.agents.training.preset import Preset
from metarl.envs.registry import FAMILIES
from metarl.errors import InvalidValueError
from metarl.evaluation.tables import Table
from metarl.experiments.publish.index import (
    Published,
    expected_minutes,
    in_minutes,
    read_index,
)
from metarl.experiments.publish.runs import published_agents
from metarl.experiments.runs.learners import find_preset
from metarl.parameters import Parameter
from metarl.splits import Independent, TaskSampler
from metarl.vector.env import TaskVectorEnv
from metarl.views import label

Row = tuple[str, ...]
RELATIVES = [name for name, kind in AGENTS.items() if issubclass(kind, MAML) and kind is not MAML]
"""Those of MAML, whose presets are much as MAML's."""
_LONGEST = 240  # characters of a distribution


def facts(name: str, tasks: TaskDistribution) -> list[Row]:
    """Return what a family is, as pairs of a name and a text.

    Args:
        name: The family's name on the command line.
        tasks: The family.
    """
    with closing((tasks.still or tasks).make_vec(1)) as env:
        steps = f"{env.horizon:,} step{'s' if env.horizon != 1 else ''}"
        rows: list[Row] = [
            ("observation", str(env.single_observation_space)),
            ("action", str(env.single_action_space)),
            ("reward", _reward(name, env)),
        ]
    episodes = tasks.episodes_per_trial
    of = f"{episodes} episode{'s' if episodes > 1 else ''} of at most {steps}"
    rows.append(("trial", of))
    for parameter, distribution in tasks.parameters.items():
        rows.append(("parameter", f"{parameter}: {_shortened(distribution)}"))
    for split in tasks.splits:
        rows.append(("split", f"{split}: {_describe_split(tasks, tasks.sampler(split))}"))
    if overlap := tasks.overlap("held_out"):
        rows.append(("note", overlap))
    if tasks.references:
        rows.append(("references", ", ".join(tasks.references)))
    return rows


def _reward(name: str, env: TaskVectorEnv) -> str:
    """Return the reward in a sentence, from the docstring of the family or of its environment."""
    family: Any = FAMILIES.get(name)
    while isinstance(family, functools.partial):
        family = family.func
    text = " ".join((inspect.getdoc(family) or "").split()) if family else ""
    found = re.search(r"Reward (.+?)(?:\.|:|;)(?: |$)", text)
    for kind in type(env).__mro__ if found is None else ():
        rows = (inspect.getdoc(kind) or "").replace("\\\n", "")
        if found := re.search(r"^\| Reward \| (.+?) \|$", rows, re.M):
            break
    return found[1].replace("``", "") if found else "that of the environment"


def _shortened(distribution: Parameter | TaskSampler) -> str:
    text = str(distribution)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _describe_split(tasks: TaskDistribution, sampler: TaskSampler) -> str:
    """Return how many tasks a split has, and which parameters are distributed otherwise."""
    count = sampler.num_tasks
    size = "a continuum of tasks" if count is None else f"{count:,} task{'s' if count > 1 else ''}"
    if not isinstance(sampler, Independent):
        return size
    others = [
        f"{name} {_shortened(distribution)}"
        for name, distribution in sampler.parameters.items()
        if distribution != tasks.parameters[name]
    ]
    return f"{size}, with {'; '.join(others)}" if others else size


def presets(name: str, tasks: TaskDistribution) -> list[Row]:
    """Return the presets of a family: agent, env steps, expected time, hyperparameters."""
    rows: list[Row] = []
    for agent, kind in AGENTS.items():
        takes_no_env_steps = issubclass(kind, (OfflineLearner, FromScratch))
        if takes_no_env_steps or agent in RELATIVES:
            continue
        try:
            preset = find_preset(agent, tasks)
        except InvalidValueError:
            continue
        steps = preset.total_timesteps or 0
        minutes = in_minutes(expected_minutes(agent, name, steps))
        rows.append((agent, f"{steps:,}", minutes, ", ".join(settings(preset))))
    return rows


def settings(preset: Preset) -> list[str]:
    """Return the hyperparameters of a preset that are not the defaults, as ``--set`` takes them."""
    return [f"{name}={json.dumps(value)}" for name, value in preset.hyperparameters.items()]


def published_runs(tasks: str) -> Table | None:
    """Return the published runs of a family, a row for the seeds of an agent; None if none is."""
    groups: dict[tuple[str, int], list[Published]] = {}
    for each in read_index():
        if each.tasks == tasks:
            name = " ".join([label(each.agent, each.view), *each.options])
            groups.setdefault((name, each.steps), []).append(each)
    rows = [
        (
            name,
            len(found),
            f"{steps:,}",
            sum(each.first for each in found) / len(found),
            sum(each.last for each in found) / len(found),
        )
        for (name, steps), found in groups.items()
    ]
    columns = ("agent", "seeds", "env steps", "first", "last")
    return Table(columns, tuple(rows), left=1) if rows else None


def agents_of(tasks: str) -> list[str]:
    """Return the names of the published agents of a family that are here."""
    here = published_agents()
    return [each.name for each in read_index() if each.tasks == tasks and each.name in here]


def agents() -> Table:
    """Return the published agents: their training, first and last episode, and where they are."""
    rows = [
        (each.name, _in_steps(each.steps), each.first, each.last, each.where)
        for each in read_index()
        if each.where
    ]
    return Table(("agent", "steps", "first", "last", "in the"), tuple(rows), left=1)


def _in_steps(steps: int) -> str:
    """Return env steps, in millions, or gradient steps, which are few."""
    return f"{steps / 1e6:.1f}M" if steps >= 50_000 else f"{steps:,}"
