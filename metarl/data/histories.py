"""Recorded histories, read as a data set."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from metarl.batches import map_leaves
from metarl.data.format import damaged, read_index, shard_path
from metarl.entries import parse_json
from metarl.errors import InvalidValueError, check_at_least
from metarl.files import as_path
from metarl.seeding import stream
from metarl.spaces import Values
from metarl.tasks import Task, Tasks

Array = NDArray[Any]
_STEPS = ("observations", "actions", "rewards", "terminated", "truncated")
_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"U{8 * n}": np.dtype(f"u{n}") for n in (1, 2, 4, 8)},
    **{f"I{8 * n}": np.dtype(f"i{n}") for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": np.dtype(f"f{n}") for n in (2, 4, 8)},
}


@dataclass(frozen=True)
class History:
    """All that an agent did in one task, from the first step on.

    Attributes:
        task: The task.
        observations: What each action was chosen from, of shape (num_steps, *observation_shape);
            for Dict and Tuple spaces a dictionary or tuple of such arrays.
        actions: Of shape (num_steps, *action_shape), nested in the same way.
        rewards: Of shape (num_steps,), float32.
        terminated: Whether the step reached a terminal state, of shape (num_steps,).
        truncated: Whether the step met the time limit, of shape (num_steps,).
        starts: The first step of each episode, of shape (num_episodes,).
        final_observations: What followed the last step of each episode, of shape
            (num_episodes, *observation_shape).
        best_actions: What an oracle would have done in each step, of the shape of ``actions``;
            None if it was not recorded.
    """

    task: Task
    observations: Values
    actions: Values
    rewards: Array
    terminated: Array
    truncated: Array
    starts: Array
    final_observations: Values
    best_actions: Array | None

    @property
    def returns(self) -> NDArray[np.float64]:
        """The return of each episode, of shape (num_episodes,)."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.starts)


@dataclass(frozen=True)
class Batch:
    """Parts of histories side by side, padded at their ends.

    Attributes:
        observations: Of shape (n, num_steps, *observation_shape); nested as in the space.
        actions: Of shape (n, num_steps, *action_shape); nested as in the space.
        rewards: Of shape (n, num_steps).
        terminated: Of shape (n, num_steps).
        truncated: Of shape (n, num_steps).
        mask: Which steps are real, of shape (n, num_steps).
        final_observations: What followed the last step of each episode, of shape
            (n, num_episodes, *observation_shape).
        best_actions: What an oracle would have done in each step, of the shape of ``actions``;
            None if it was not recorded.
        task_ids: The index of each part's history, of shape (n,).
    """

    observations: Values
    actions: Values
    rewards: Array
    terminated: Array
    truncated: Array
    mask: NDArray[np.bool_]
    final_observations: Values
    best_actions: Array | None
    task_ids: NDArray[np.int64]

    @property
    def episode_end(self) -> NDArray[np.bool_]:
        """Whether each step ended an episode, of shape (n, num_steps)."""
        return (self.terminated | self.truncated) & self.mask

    @property
    def next_observations(self) -> Values:
        """What followed each step, of the shape of ``observations``."""
        ended = self.episode_end

        def shifted(values: Array, finals: Array) -> Array:
            following = np.roll(values, -1, axis=1)
            # Ends are met row by row, and in each in the order of its episodes.
            following[ended] = finals.reshape(-1, *finals.shape[2:])
            return following

        return map_leaves(shifted, self.observations, self.final_observations)


class Histories(Sequence[History]):
    """A folder of histories that :func:`metarl.data.record` wrote, mapped into memory.

    ``histories[i]`` is the history of task i, a :class:`History` of views; nothing is read before
    it is used. It is a data set of PyTorch's kind, and :meth:`windows` another.

    Args:
        folder: The folder.

    Attributes:
        info: What was recorded: family, agent, seed, spaces and more, as in ``index.json``.
        tasks: The task of each history.
        starts: The first step of each episode in its shard, of shape (num_tasks, num_episodes).
        lengths: The steps of each episode, of the same shape.

    Raises:
        FileNotFoundError: If the folder holds no histories.
        ValueError: If the recording is not finished, or a file is damaged.
    """

    def __init__(self, folder: str | Path):
        folder = as_path(folder)
        self.info = read_index(folder)
        num_tasks, self._per_shard = self.info["num_tasks"], self.info["tasks_per_shard"]
        paths = [shard_path(folder, i) for i in range(-(-num_tasks // self._per_shard))]
        if missing := [path for path in paths if not path.is_file()]:
            raise InvalidValueError(
                f"{str(folder)!r} has {len(paths) - len(missing)} of {len(paths)} shards; record "
                "the others by calling the same command again"
            )
        self._shards = [
            _Shard(path, min(self._per_shard, num_tasks - i * self._per_shard), self.info)
            for i, path in enumerate(paths)
        ]
        self.lengths = np.concatenate([shard.tensors["lengths"] for shard in self._shards])
        self.starts = np.concatenate([shard.starts for shard in self._shards])
        names = list(self._shards[0].tasks.columns)
        if any(list(shard.tasks.columns) != names for shard in self._shards):
            raise InvalidValueError(f"the shards of {str(folder)!r} are not of one family")
        self.tasks = Tasks(
            self.info["family"],
            {name: np.concatenate([s.tasks.columns[name] for s in self._shards]) for name in names},
        )

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]  # negative indices, and IndexError beyond the end
        shard, row = self._shards[i // self._per_shard], i % self._per_shard
        first = int(self.starts[i, 0])
        steps = slice(first, first + int(self.lengths[i].sum()))
        return History(
            self.tasks[i],
            **{name: self._nested(name, lambda key: shard.tensors[key][steps]) for name in _STEPS},
            starts=self.starts[i] - first,
            final_observations=self._nested(
                "final_observations", lambda key: shard.tensors[key][row]
            ),
            best_actions=self._nested("best_actions", lambda key: shard.tensors[key][steps])
            if self.info["labels"]
            else None,
        )

    def split(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Divide the tasks; return the histories of each part. Equal tasks stay together.

        Args:
            share: The share of the tasks that goes to the second part, rounded down.
            seed: The seed of the division.
        """
        tasks = self.tasks.group_ids()
        num_tasks = int(tasks.max()) + 1
        order = np.random.default_rng(stream(seed, "split")).permutation(num_tasks)
        second = np.isin(tasks, order[: int(share * num_tasks)])
        return np.flatnonzero(~second), np.flatnonzero(second)

    def windows(
        self, num_episodes: int, every: int = 1, ids: NDArray[np.int64] | None = None
    ) -> "Windows":
        """Return all runs of episodes as a data set: contexts for a sequence model.

        Args:
            num_episodes: The episodes of each window.
            every: Take every so many episodes only, so that a short window spans more progress
                (Laskin et al. 2022).
            ids: Of which histories; None takes all.

        Raises:
            ValueError: If a number is below 1, or no history is that long.
        """
        return Windows(self, num_episodes, every, np.arange(len(self)) if ids is None else ids)

    def gather(self, episodes: NDArray[np.int64], task_ids: NDArray[np.int64]) -> Batch:
        """Return some episodes of some histories, one behind the other, as padded rows.

        Args:
            episodes: The episodes of each row, of shape (n, num_episodes).
            task_ids: The history of each row, of shape (n,).
        """
        lengths = self.lengths[task_ids[:, None], episodes]
        starts = self.starts[task_ids[:, None], episodes]
        totals = lengths.sum(axis=1)
        mask = np.arange(totals.max()) < totals[:, None]
        # Steps are counted through all rows: those of an episode follow each other in its shard.
        flat = lengths.ravel()
        begun = np.cumsum(flat) - flat
        steps = np.repeat(starts.ravel() - begun, flat) + np.arange(flat.sum())
        rows, places = np.nonzero(mask)
        shard_ids = (task_ids // self._per_shard)[rows]
        parts = [(self._shards[k], shard_ids == k) for k in np.unique(shard_ids)]
        own_rows = task_ids % self._per_shard

        def padded(key: str) -> Array:
            like = parts[0][0].tensors[key]
            values = np.zeros((*mask.shape, *like.shape[1:]), like.dtype)
            for shard, own in parts:
                values[rows[own], places[own]] = shard.tensors[key][steps[own]]
            return values

        def final(key: str) -> Array:
            like = parts[0][0].tensors[key]
            values = np.zeros((*episodes.shape, *like.shape[2:]), like.dtype)
            for k in np.unique(task_ids // self._per_shard):
                own = task_ids // self._per_shard == k
                found = self._shards[k].tensors[key]
                values[own] = found[own_rows[own, None], episodes[own]]
            return values

        return Batch(
            **{name: self._nested(name, padded) for name in _STEPS},
            mask=mask,
            final_observations=self._nested("final_observations", final),
            best_actions=self._nested("best_actions", padded) if self.info["labels"] else None,
            task_ids=task_ids,
        )

    def _nested(self, name: str, get: Any) -> Values:
        space = _space_of(name, self.info)
        return get(name) if space is None else _nest(space, name, get)


class Windows:
    """All runs of a number of episodes in histories; see :meth:`Histories.windows`.

    Attributes:
        histories: The histories.
        num_episodes: The episodes of a window.
        every: How many episodes lie between two of a window.
        ids: The histories whose runs there are.
    """

    def __init__(self, histories: Histories, num_episodes: int, every: int, ids: NDArray[np.int64]):
        check_at_least(1, num_episodes=num_episodes, every=every)
        self.histories, self.num_episodes, self.every = histories, num_episodes, every
        self.ids = ids
        recorded = histories.info["num_episodes"]
        self._per_history: int = recorded - (num_episodes - 1) * every
        if self._per_history < 1:
            raise InvalidValueError(
                f"num_episodes={num_episodes} with every={every} span "
                f"{(num_episodes - 1) * every + 1} episodes; the histories have {recorded}"
            )

    def __len__(self) -> int:
        return len(self.ids) * self._per_history

    def batch(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Batch:
        """Return the windows of these indices side by side."""
        ids = np.asarray(indices, dtype=np.int64)
        if ids.ndim != 1 or not len(ids) or ids.min() < 0 or ids.max() >= len(self):
            raise InvalidValueError(f"indices must be from 0 to {len(self) - 1}, got {ids}")
        places, first = np.divmod(ids, self._per_history)
        offsets = self.every * np.arange(self.num_episodes)
        return self.histories.gather(first[:, None] + offsets, self.ids[places])


def _space_of(name: str, index: dict[str, Any]) -> Any:
    """Return the space of what a tensor holds, or None if that is one number for each step."""
    if name.endswith("observations"):
        return index["observation_space"]
    return index["action_space"] if name.endswith("actions") else None


def _nest(space: Any, name: str, get: Any) -> Values:
    """Put the arrays of a space together as its values are nested."""
    if space["type"] not in ("Dict", "Tuple"):
        return get(name)
    parts = {key: _nest(part, f"{name}/{key}", get) for key, part in space["spaces"].items()}
    return parts if space["type"] == "Dict" else tuple(parts.values())


class _Shard:
    """The tensors of a file, as views of it."""

    def __init__(self, path: Path, num_tasks: int, index: dict[str, Any]):
        try:
            with safe_open(path, framework="numpy") as file:  # checks that tensors fill the file
                metadata = file.metadata() or {}
            self.tasks = Tasks.from_json(parse_json(metadata["tasks"]))
            self.tensors = _views(path)
            _check(self.tensors, len(self.tasks), num_tasks, index)
            stops = self.tensors["lengths"].cumsum().reshape(self.tensors["lengths"].shape)
            self.starts = stops - self.tensors["lengths"]
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from None


def _views(path: Path) -> dict[str, Array]:
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    size = int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8 : 8 + size]))
    views = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            raw = data[8 + size + begin : 8 + size + end]
            views[name] = raw.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return views


def _check(tensors: dict[str, Array], found: int, num_tasks: int, index: dict[str, Any]) -> None:
    """Raise unless the tensors of a shard are those that its index promises."""
    lengths, shape = tensors["lengths"], (num_tasks, index["num_episodes"])
    if found != num_tasks or lengths.shape != shape or lengths.min() < 1:
        raise InvalidValueError(f"it has {found} tasks and {lengths.shape} episodes, not {shape}")
    num_steps = int(lengths.sum())
    names = [*_STEPS[2:]]
    for name in (*_STEPS[:2], *(["best_actions"] if index["labels"] else [])):
        _nest(_space_of(name, index), name, names.append)
    for name in names:
        if len(tensors[name]) != num_steps:
            raise InvalidValueError(f"{name!r} has {len(tensors[name])} steps, not {num_steps}")
