"""Record what an agent does while it adapts to tasks."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.data.demonstrations import Demonstrator, informed, noise_shares
from metarl.data.format import (
    FORMAT,
    INDEX,
    SHARD_BYTES,
    read_index,
    shard_path,
    write_index,
    write_shard,
)
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError, check_at_least, check_at_most, check_names
from metarl.evaluation.adaptation import Adaptation, Agent, Transition
from metarl.evaluation.play import MAX_ENVS, check_spaces, play
from metarl.evaluation.report import versions
from metarl.files import as_path, check_no_link, remove_parts
from metarl.seeding import stream
from metarl.spaces import Space, Values, leaf_values, leaves, to_json

Array = NDArray[Any]


def record(
    agent: Agent,
    tasks: TaskDistribution,
    folder: str | Path,
    *,
    split: str = "train",
    num_tasks: int = 1000,
    num_episodes: int | None = None,
    seed: int = 0,
    source: str = "",
    oracle: bool = False,
    noise: tuple[float, float] = (0.0, 0.0),
    labels: Agent | None = None,
) -> Path:
    """Record the history of an agent in each of many tasks: all steps, from the first on.

    Shards of whole histories are written one after another, so memory does not grow with
    ``num_tasks``. A recording that was interrupted goes on with the first shard that is missing
    when it is called again with the same arguments, and ends in the same bytes.

    Args:
        agent: Anything with an ``adaptation`` method; see :class:`metarl.Agent`.
        tasks: The family.
        folder: Where the histories go.
        split: The split to draw tasks from.
        num_tasks: How many tasks: one history each.
        num_episodes: The episodes of each task; None takes the family's, rounded up to a multiple
            of the agent's ``episodes_per_adaptation``.
        seed: The seed of tasks, environments and actions.
        source: What the agent is, for readers of the data: a run, or the command that made it.
        oracle: Whether the agent is made for ``tasks.oracle()``: it then sees the task, which the
            recorded observations do not show.
        noise: The share of random actions in the first and in the last tenth of the episodes, with
            a linear change in between. With an oracle and ``(1, 0)``, histories show a learner that
            becomes perfect.
        labels: An oracle, made for ``tasks.oracle()``. What it would do in each step is recorded
            as the step's best action.

    Returns:
        The folder.

    Raises:
        ValueError: If there is no such split, a number is out of its range, an oracle has other
            spaces, or the folder holds histories of other settings.
    """
    check_names([split], tasks.splits, f"split of {tasks.name!r}:")
    parallel = agent.episodes_per_adaptation
    if num_episodes is None:
        num_episodes = -(-tasks.episodes_per_trial // parallel) * parallel
    check_at_least(1, num_tasks=num_tasks, num_episodes=num_episodes)
    for name, share in zip(("noise_from", "noise_to"), noise):
        check_at_least(0.0, **{name: share})
        check_at_most(1.0, **{name: share})
    view = tasks.oracle()
    with closing(tasks.make_vec(1)) as probe, closing(view.make_vec(1)) as shown:
        observation_space, action_space = probe.single_observation_space, probe.single_action_space
        horizon = probe.horizon
        check_spaces(agent, *((view, shown) if oracle else (tasks, probe)))
        if labels is not None:
            check_spaces(labels, view, shown)
    step_bytes = 4 + sum(num_bytes(leaf) for _, leaf in leaves(observation_space))
    action_bytes = sum(num_bytes(leaf) for _, leaf in leaves(action_space))
    step_bytes += action_bytes * (1 if labels is None else 2)
    fitting = SHARD_BYTES // (step_bytes * horizon * num_episodes)
    per_shard = min(max(1, fitting), max(1, MAX_ENVS // parallel))
    index: dict[str, Any] = {
        "format": FORMAT,
        "agent": agent.name,
        "source": source,
        "noise": [float(share) for share in noise],
        "labels": "" if labels is None else labels.name,
        "family": tasks.name,
        "split": split,
        "num_tasks": int(num_tasks),
        "num_episodes": int(num_episodes),
        "tasks_per_shard": per_shard,
        "seed": int(seed),
        "observation_space": to_json(observation_space),
        "action_space": to_json(action_space),
        "horizon": horizon,
        "versions": versions(),
    }
    folder = as_path(folder)
    check_no_link(folder)
    if (folder / INDEX).exists():
        _check_same(folder, read_index(folder), index)
    remove_parts(folder)
    sampled = tasks.sample(split, num_tasks, seed)
    for shard, first in enumerate(range(0, num_tasks, per_shard)):
        path = shard_path(folder, shard)
        if path.exists():
            continue
        present = sampled[first : first + per_shard]
        lanes, shard_seed = present.repeat(parallel), stream(seed, "histories", shard)
        actor: Agent = agent
        best: Adaptation | None = None
        if oracle or any(noise):
            shares = noise_shares(*noise, num_episodes // parallel)
            actor = Demonstrator(agent, tasks, lanes, oracle, shares)
        if labels is not None:
            best = labels.adaptation(
                len(lanes), seed=stream(shard_seed, "labels"), deterministic=True
            )
            best = informed(best, tasks, lanes)
        recorder = _Recorder(observation_space, action_space, best)
        play(
            actor,
            tasks,
            present,
            num_episodes,
            seed=shard_seed,
            on_step=recorder,
            max_envs=len(lanes),
        )
        tensors = recorder.histories(len(present), num_episodes)
        if not (folder / INDEX).exists():  # an agent that cannot play the tasks leaves no folder
            write_index(folder, index)
        write_shard(path, tensors, present)
    return folder


def num_bytes(space: Space) -> int:
    """Return the bytes of a value of a plain space."""
    return int(np.prod(space.shape or (), dtype=np.int64)) * np.dtype(space.dtype).itemsize


def _check_same(folder: Path, found: dict[str, Any], index: dict[str, Any]) -> None:
    """Raise unless a recording is of the same settings; versions may differ."""
    for name, expected in index.items():
        if name != "versions" and found[name] != expected:
            raise InvalidValueError(
                f"{str(folder)!r} holds histories with {name}={found[name]!r:.80}, not "
                f"{expected!r:.80}; choose another folder"
            )


class _Recorder:
    """Keeps every step of a rollout, to be called as ``on_step``.

    Args:
        observation_space: The space of one observation.
        action_space: The space of one action.
        best: What chooses the best actions, which are recorded too; None leaves them out.
    """

    def __init__(self, observation_space: Space, action_space: Space, best: Adaptation | None):
        self._space, self._action_space, self._best = observation_space, action_space, best
        self._steps: dict[str, list[Array]] = {}
        self._finals: list[tuple[Array, dict[str, Array]]] = []

    def __call__(self, transition: Transition) -> bool:
        named = {
            **dict(named_leaves("observations", self._space, transition.observations)),
            **dict(named_leaves("actions", self._action_space, transition.actions)),
            "rewards": transition.rewards,
            "terminated": transition.terminated,
            "truncated": transition.truncated,
            "active": transition.active,
        }
        if self._best is not None:
            best = self._best.act(transition.observations)
            named |= dict(named_leaves("best_actions", self._action_space, best))
            self._best.observe(transition)
        for name, values in named.items():
            self._steps.setdefault(name, []).append(values.copy())  # an environment may reuse its
        ended = np.flatnonzero(transition.episode_end)
        if len(ended):
            last = named_leaves("final_observations", self._space, transition.next_observations)
            self._finals.append((ended, {name: values[ended] for name, values in last}))
        return True

    def histories(self, num_tasks: int, num_episodes: int) -> dict[str, Array]:
        """Return all steps, one history behind the other, in the order of learning."""
        # Arrays of shape (lanes, time, ...).
        steps = {name: np.stack(values, axis=1) for name, values in self._steps.items()}
        active = steps.pop("active")
        ended = (steps["terminated"] | steps["truncated"]) & active
        parallel = len(active) // num_tasks
        places = np.flatnonzero(active)  # lane by lane, each in the order of time
        if parallel > 1:
            # The number of episodes that a lane has completed before each of its steps.
            rounds = (np.cumsum(ended, axis=1) - ended).ravel()[places]
            lanes = places // active.shape[1]
            places = places[np.lexsort((lanes % parallel, rounds, lanes // parallel))]
        tensors = {
            name: values.reshape(-1, *values.shape[2:]).take(places, axis=0)
            for name, values in steps.items()
        }
        tensors["rewards"] = tensors["rewards"].astype(np.float32)
        stops = np.flatnonzero(ended.take(places)) + 1
        tensors["lengths"] = np.diff(stops, prepend=0).reshape(num_tasks, num_episodes)
        # Ends were met in the order of time; a lane meets its own in the order of its rounds.
        where = np.concatenate([lane for lane, _ in self._finals])
        by_lane = np.argsort(where, kind="stable")  # (task, lane of the task, round)
        shape = (num_tasks, parallel, num_episodes // parallel)
        for name in self._finals[0][1]:
            rows = np.concatenate([last[name] for _, last in self._finals])[by_lane]
            by_task = rows.reshape(*shape, *rows.shape[1:]).swapaxes(1, 2)
            # (tasks, rounds, lanes of a task, ...) to (tasks, episodes, ...)
            tensors[name] = by_task.reshape(num_tasks, num_episodes, *rows.shape[1:])
        return {name: np.ascontiguousarray(values) for name, values in tensors.items()}


def named_leaves(prefix: str, space: Space, values: Values) -> Iterator[tuple[str, Array]]:
    """Yield the arrays that a batch of values is made of, with names such as ``prefix/key``."""
    for (path, _), (_, part) in zip(leaves(space), leaf_values(space, values)):
        yield "/".join([prefix, *map(str, path)]), np.asarray(part)
