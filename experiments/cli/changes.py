"""How agents fare around a change of their task, as ``evaluate`` and ``compare`` print it."""

import contextlib
import math
from collections.abc import Mapping
from typing import TypeAlias

from metarl import TaskDistribution
from metarl.agents import reference
from metarl.evaluation.adaptation import Agent
from metarl.evaluation.changes import change_table, recovery_table, rewards_around_change
from metarl.evaluation.tables import Table
from metarl.vector.changing import EARLIEST

Players: TypeAlias = Mapping[str, tuple[Agent, TaskDistribution]]
"""Agents by what they are called, each with its view of the family."""


def tables_around_change(players: Players, split: str, seed: int) -> list[Table]:
    """Return how agents fare around a change of their task, and the references of their family.

    If one is an oracle, a second table compares the others with it. Every trial has the steps
    before the change, and half of those after it. Agents that play several episodes of a task side
    by side are left out: each of these has a change of its own.
    """
    everyone = {name: of for name, of in players.items() if of[0].episodes_per_adaptation == 1}
    if not everyone:
        return []
    _, tasks = next(iter(everyone.values()))
    with contextlib.closing(tasks.make_vec(1)) as env:
        num_steps = env.horizon * tasks.episodes_per_trial
    always = math.floor(EARLIEST * num_steps)
    for name in tasks.references:
        agent, view = reference(name, tasks)
        everyone[agent.name] = agent, view
    rewards = {
        name: rewards_around_change(
            agent, view, before=always, after=2 * always, split=split, seed=seed
        )
        for name, (agent, view) in everyone.items()
    }
    oracles = [name for name, (_, view) in everyone.items() if view.view.get("oracle")]
    if not oracles:
        return [change_table(rewards, always)]
    tables = [change_table(rewards, always, oracles[0])]
    if len(rewards) > 1:
        tables.append(recovery_table(rewards, always, oracles[0]))
    return tables
