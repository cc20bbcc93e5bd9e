"""Alchemists that need no training: random potions, and the best plan for a known chemistry."""

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.agents.classical.potions import NUM_KINDS, USED, Plans
from metarl.agents.classical.random_actions import NoAdaptation
from metarl.agents.common.actions import IMPOSSIBLE, action_head
from metarl.agents.common.teacher import ActionLabels
from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError, check_at_least
from metarl.evaluation.adaptation import Adaptation, Transition, check_rows
from metarl.seeding import Seed, stream
from metarl.tasks import Tasks
from metarl.vector.oracle import OracleVectorEnv

Array = NDArray[Any]

STONES, POTIONS, HORIZON = 3, 12, 20
SIZE = 5 * STONES + 2 * POTIONS  # of an observation
CORNER_REWARDS = np.array([-3.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 15.0])  # of corners
_POTION_COST, _TEMPERATURE = 0.5, 0.25  # of a teacher


class RandomPotions:
    """Put stones into potions at random until none is left, then the good ones in the cauldron.

    A stone worth 15 goes into the cauldron at once.

    Args:
        tasks: A family of chemistries.

    Raises:
        ValueError: If it is another family.
    """

    name = "random potions"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        check_is_alchemy(self, tasks)

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; ``deterministic`` has no effect."""
        check_at_least(1, num_tasks=num_tasks)
        rng = np.random.default_rng(stream(seed, "actions"))

        def act(observations: Array) -> Array:
            check_rows(observations, num_tasks)
            stones, potions = parts(observations)
            values, here = np.round(3 * stones[:, :, 3]), stones[:, :, 4] == 0
            left = potions[:, :, 1] == 0
            stone = np.where(here, rng.random(here.shape), -1.0).argmax(axis=1)
            potion = np.where(left, rng.random(left.shape), -1.0).argmax(axis=1)
            mixing = 2 + (1 + POTIONS) * stone + potion
            finished = here & ((values == 3) | ((values > 0) & ~left.any(axis=1, keepdims=True)))
            selling = 1 + (1 + POTIONS) * finished.argmax(axis=1)
            can_mix = here.any(axis=1) & left.any(axis=1)
            actions: Array = np.where(finished.any(axis=1), selling, np.where(can_mix, mixing, 0))
            return actions

        return NoAdaptation(act)


class KnownChemistry:
    """The oracle: it knows the chemistry and makes the best of the stones and potions at hand.

    At the start of an episode it compares all ways to use the potions.

    As a teacher (:meth:`metarl.agents.RL2.set_teacher`) it shows what each action is worth, and
    counts a potion as a small cost: where all that is known of a chemistry leaves several possible,
    an action that is harmless but useless in some of them must not look as good as a useful one.

    Args:
        tasks: The oracle's view of a family of chemistries, ``tasks.oracle()``.

    Raises:
        ValueError: If the tasks are not the oracle's view, or another family.
    """

    name = "known chemistry"
    episodes_per_adaptation = 1

    def __init__(self, tasks: TaskDistribution):
        env = check_is_alchemy(self, tasks)
        if not isinstance(env, OracleVectorEnv):
            raise InvalidValueError(
                f"the oracle reads the task: give it tasks.oracle(), got {tasks.name!r}"
            )
        self.tasks = tasks

    def adaptation(
        self, num_tasks: int, *, seed: Seed = 0, deterministic: bool = False
    ) -> Adaptation:
        """Return a player of ``num_tasks`` tasks; it uses no chance."""
        check_at_least(1, num_tasks=num_tasks)
        return _Planner(self.tasks, num_tasks)

    def action_labels(self, rows: torch.Tensor, pixels: torch.Tensor) -> ActionLabels:
        """Return a distribution of actions in the steps of trials: the better, the more likely.

        Logits are what the actions are worth, over a temperature. It does nothing only where
        nothing can be used: potions that nothing needs may still show what they do.

        Args:
            rows: Of the oracle's view, of shape (time, n, row_size).
            pixels: None, of shape (time, n, 0).
        """
        steps = rows.cpu().numpy()
        time, num_trials = steps.shape[:2]
        env: Any = self.tasks.make_vec(num_trials)
        model = env.env
        size = env.single_observation_space.shape[0]
        model.set_tasks(_decoded(self.tasks, steps[0, :, SIZE:size]))
        plans = Plans(model.next_corners, ways, _POTION_COST)
        lanes = np.tile(np.arange(num_trials), time)
        stones, potions = parts(steps[..., :SIZE].reshape(-1, SIZE))
        corners, meanings = _read(model, lanes, stones, potions)
        here, left = stones[:, :, 4] == 0, potions[:, :, 1] == 0
        corners, meanings = np.where(here, corners, USED), np.where(left, meanings, NUM_KINDS)
        counts = (meanings[:, :, None] == np.arange(NUM_KINDS)).sum(axis=1)
        worth = plans.uses(lanes, corners, counts, CORNER_REWARDS)  # (rows, stones, kinds + 1)
        actions = actions_of_uses(worth, meanings)
        nothing = np.where(here.any(axis=1) & left.any(axis=1), -np.inf, 0.0)
        logits = np.column_stack([nothing, actions]) / _TEMPERATURE
        logits = np.maximum(logits - logits.max(axis=1, keepdims=True), IMPOSSIBLE)
        outputs = torch.as_tensor(logits.reshape(time, num_trials, -1), dtype=rows.dtype)
        head = action_head(env.single_action_space, masked=True)
        return ActionLabels(head, outputs.to(rows.device), None)


class _Planner:
    """Follows, in each task, the best plan of the present episode."""

    def __init__(self, tasks: TaskDistribution, num_tasks: int):
        env: Any = tasks.make_vec(num_tasks)
        self._tasks, self._model = tasks, env.env
        self._lanes = np.arange(num_tasks)
        self._step = np.zeros(num_tasks, dtype=np.int64)
        self._plan = np.zeros((num_tasks, HORIZON), dtype=np.int64)
        self._known = False

    def act(self, observations: Array) -> Array:
        check_rows(observations, len(self._lanes))
        if not self._known:  # tasks do not change
            self._model.set_tasks(_decoded(self._tasks, observations[:, SIZE:]))
            self._known = True
        begun = np.flatnonzero(self._step == 0)
        if len(begun):
            self._plan[begun] = self._planned(begun, *parts(observations[begun]))
        actions: Array = self._plan[self._lanes, self._step]
        return actions

    def observe(self, transition: Transition) -> None:
        self._step = np.where(transition.episode_end, 0, self._step + transition.active)

    def _planned(self, lanes: Array, stones: Array, potions: Array) -> Array:
        corners, meanings = _read(self._model, lanes, stones, potions)
        after = self._model.next_corners[lanes]
        return np.array([best_plan(*lane) for lane in zip(after, corners, meanings)])


def best_plan(after: Array, corners: Array, meanings: Array) -> Array:
    """Return the actions that earn the most with the stones and potions of an episode.

    Args:
        after: The corner after each potion, of shape (8, 6).
        corners: Of the stones, of shape (3,).
        meanings: The potion that each of the potions is, of shape (12,).

    Returns:
        Actions of shape (20,); nothing at the end.
    """
    available = np.bincount(meanings, minlength=6)
    usage, reward, paths = [], [], []
    for corner in corners.tolist():
        used, earned, ways_there = ways(after.tobytes(), corner)
        (possible,) = np.nonzero((used <= available).all(axis=1))
        usage.append(used[possible])
        reward.append(earned[possible])
        paths.append([ways_there[way] for way in possible])
    # All triples of ways, one for each stone: (a, b, c, 6).
    together = usage[0][:, None, None] + usage[1][:, None] + usage[2]
    total = reward[0][:, None, None] + reward[1][:, None] + reward[2]
    total = np.where((together <= available).all(axis=3), total, -1.0)
    chosen = np.unravel_index(total.argmax(), total.shape)
    left = [np.flatnonzero(meanings == potion).tolist() for potion in range(6)]
    actions: list[int] = []
    for stone, way in enumerate(chosen):
        path = paths[stone][way]
        if path is not None:
            first = 1 + (1 + POTIONS) * stone
            actions += [*(first + 1 + left[potion].pop() for potion in path), first]
    return np.array(actions + [0] * (HORIZON - len(actions)))


@functools.cache
def ways(after: bytes, corner: int) -> tuple[Array, Array, list[tuple[int, ...] | None]]:
    """Return all that is worth doing with a stone, whatever potions there are.

    Args:
        after: The corner after each potion, an int64 array of shape (8, 6) as bytes.
        corner: Of the stone.

    Returns:
        For each way how many potions of each kind it takes, of shape (m, 6), what it earns, of
        shape (m,), and the potions in order; None leaves the stone.
    """
    table = np.frombuffer(after, dtype=np.int64).reshape(8, 6)
    values = [bin(c).count("1") * 2 - 3 for c in range(8)]
    found: dict[tuple[int, ...], tuple[float, tuple[int, ...] | None]] = {(0,) * 6: (0.0, None)}

    def walk(at: int, path: tuple[int, ...], seen: frozenset[int]) -> None:
        reward = 15.0 if values[at] == 3 else float(values[at])
        used = tuple(path.count(potion) for potion in range(6))
        if reward > found.get(used, (0.0, None))[0]:
            found[used] = (reward, path)
        for potion in range(6):
            to = int(table[at, potion])
            if to not in seen:
                walk(to, (*path, potion), seen | {to})

    walk(corner, (), frozenset([corner]))

    def dominated(used: tuple[int, ...], reward: float) -> bool:
        return any(
            other != used and r >= reward and all(a <= b for a, b in zip(other, used))
            for other, (r, _) in found.items()
        )

    kept = {used: way for used, way in found.items() if not dominated(used, way[0])}
    usage = np.array(list(kept))
    return usage, np.array([r for r, _ in kept.values()]), [path for _, path in kept.values()]


def actions_of_uses(worth: Array, kinds: Array) -> Array:
    """Return what each action but doing nothing is worth, of shape (n, 39).

    Args:
        worth: Of each stone with each kind of potion, and with the cauldron, of shape (n, 3, 7).
        kinds: Of the potions, of shape (n, 12); 6 for one that was used.
    """
    of_actions = np.pad(kinds, ((0, 0), (1, 0)), constant_values=NUM_KINDS)  # the cauldron first
    usable = np.pad(kinds < NUM_KINDS, ((0, 0), (1, 0)), constant_values=True)
    worth = np.take_along_axis(worth, of_actions[:, None].repeat(STONES, axis=1), axis=2)
    return np.where(usable[:, None], worth, -np.inf).reshape(len(kinds), -1)


def colors_of(potions: Array) -> Array:
    """Return the colors of potions of shape (n, 12, 2); those of used ones are arbitrary."""
    colors: Array = np.round(3 * (potions[:, :, 0] + 1)).astype(np.int64) % NUM_KINDS
    return colors


def parts(observations: Array) -> tuple[Array, Array]:
    """Return stones of shape (n, 3, 5) and potions of shape (n, 12, 2)."""
    stones = observations[:, : 5 * STONES].reshape(-1, STONES, 5)
    return stones, observations[:, 5 * STONES : SIZE].reshape(-1, POTIONS, 2)


def _read(model: Any, lanes: Array, stones: Array, potions: Array) -> tuple[Array, Array]:
    """Return the corners of stones, of shape (n, 3), and what potions are, of shape (n, 12).

    Of what was used, they are arbitrary.

    Args:
        model: An environment with the chemistries.
        lanes: The chemistry of each table, of shape (n,).
        stones: Of shape (n, 3, 5).
        potions: Of shape (n, 12, 2).
    """
    looks = model.looks[lanes]  # (n, 8, 4)
    corners = (looks[:, None] == stones[:, :, None, :4]).all(axis=3).argmax(axis=2)
    return corners, np.take_along_axis(model.meanings[lanes], colors_of(potions), axis=1)


def _decoded(tasks: TaskDistribution, features: Array) -> Tasks:
    """Return the tasks that were encoded as features of shape (n, num_features)."""
    columns: dict[str, Array] = {}
    start = 0
    for name, parameter in tasks.parameters.items():
        values = np.asarray(parameter.finite_values)
        codes = parameter.encode(values)  # (num_values, size)
        own = features[:, start : start + codes.shape[1]]
        distance = ((own[:, None] - codes) ** 2).sum(axis=2)
        columns[name] = values[distance.argmin(axis=1)]
        start += codes.shape[1]
    return Tasks(tasks.name, columns)


def check_is_alchemy(agent: object, tasks: TaskDistribution) -> Any:
    """Return an environment of a family of chemistries.

    Raises:
        ValueError: If it is another family.
    """
    env: Any = tasks.make_vec(1)
    env.close()
    inner = env.env if isinstance(env, OracleVectorEnv) else env
    if not hasattr(inner, "next_corners"):
        raise InvalidValueError(
            f"{type(agent).__name__} plays families of chemistries, as alchemy; got {tasks.name!r}"
        )
    return env
