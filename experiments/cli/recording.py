"""Histories recorded of runs, and of agents that need no training."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from metarl import Agent, TaskDistribution, envs
from metarl.agents import AGENTS, REFERENCES, reference
from metarl.data import Histories, record
from metarl.data.format import shard_path
from metarl.errors import Interrupted, InvalidValueError, did_you_mean
from metarl.experiments.cli.terminal import say
from metarl.experiments.cli.trust import remember
from metarl.experiments.publish.runs import open_run, published_agents
from metarl.experiments.runs.loading import load_agent
from metarl.views import View


def record_histories(
    agent: str,
    tasks: str,
    folder: Path,
    *,
    view: View,
    trust: str | None = None,
    labels: str | None = None,
    **settings: Any,
) -> None:
    """Record the histories of an agent, and print how many there are.

    Args:
        agent: A run directory, the name of a published run, or one of
            :data:`metarl.agents.REFERENCES`. An oracle is given the task; unless the view shows it,
            the recorded observations do not.
        tasks: The family's name, or ``module:attribute`` of your own family.
        folder: Where the histories go.
        view: The options of :func:`metarl.envs.make`.
        trust: The module of the run's family or agent, where it may be imported.
        labels: An oracle, likewise, whose choice in each step is recorded too.
        settings: Options of :func:`metarl.data.record`.
    """
    family = envs.make(tasks, **view)
    remember(tasks)
    actor, oracle, source = _actor(agent, family, trust)
    best = None
    if labels is not None:
        best, is_oracle, _ = _actor(labels, family, trust)
        if not is_oracle:
            raise InvalidValueError(
                f"--labels must name an oracle, such as known-goal, or a run that was trained with "
                f"--oracle, got {labels!r}, which does not see the task"
            )
    say(f"recording {actor.name} on {family.label}; folder: {folder}")
    existing = {path.name for path in folder.glob("*.safetensors")}
    started = time.monotonic()
    try:
        record(actor, family, folder, source=source, oracle=oracle, labels=best, **settings)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; continue with the same command") from None
    seconds = max(time.monotonic() - started, 1e-9)
    histories = Histories(folder)
    shards = np.arange(len(histories)) // histories.info["tasks_per_shard"]
    is_new = [shard_path(folder, shard).name not in existing for shard in shards]
    num_steps = histories.lengths.sum()
    speed = histories.lengths[is_new].sum() / seconds
    say(
        f"{len(histories):,} histories, {histories.lengths.size:,} episodes, {num_steps:,} steps; "
        f"recorded in {seconds:.0f} s, {speed:,.0f} steps per second"
    )


def _actor(agent: str, family: TaskDistribution, trust: str | None) -> tuple[Agent, bool, str]:
    """Return what acts, whether it is an oracle, and a text on where it is from."""
    if agent in REFERENCES:
        actor, seen = reference(agent, family)
        source = f"{agent} on {family.label}, which needs no training"
        return actor, bool(seen.view.get("oracle")), source
    if agent in AGENTS:
        raise InvalidValueError(
            f"{agent} must be trained first: name a run of it, or an agent that needs no training: "
            f"{', '.join(REFERENCES)}"
        )
    try:
        run = open_run(agent)
    except FileNotFoundError as error:
        if "/" in agent or Path(agent).exists():
            raise
        known = [*REFERENCES, *published_agents()]
        raise InvalidValueError(
            f"there is no run or agent {agent!r}; {did_you_mean(agent, known)}"
        ) from error
    learner = load_agent(run, trust)
    source = (
        f"{run.directory} after {learner.num_timesteps:,} {learner.unit} on {learner.tasks.label}: "
        f"{run.config.get('command', '')}"
    )
    return learner, bool(learner.tasks.view.get("oracle")), source
