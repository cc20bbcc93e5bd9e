"""Histories from and to Minari, the format of the Farama Foundation for offline data.

Minari knows episodes, each of which is for itself. A history is several of them in a row, so
``from_minari`` asks how many; ``to_minari`` notes it, with the tasks, in the data set's metadata.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metarl.batches import map_leaves, take
from metarl.data.format import (
    FORMAT,
    INDEX,
    INDEX_ENTRIES,
    SHARD_BYTES,
    shard_path,
    write_index,
    write_shard,
)
from metarl.data.histories import Histories
from metarl.data.recording import named_leaves, num_bytes
from metarl.distribution import TaskDistribution
from metarl.entries import check_entries
from metarl.errors import InvalidValueError, MissingPackageError, check_at_least
from metarl.evaluation.report import versions
from metarl.files import as_path, check_no_link
from metarl.spaces import Space, Values, difference, leaves, to_json
from metarl.tasks import Tasks

if TYPE_CHECKING:
    from minari import EpisodeData, MinariDataset
    from minari.data_collector import EpisodeBuffer

Array = NDArray[Any]
_NOTES = "metarl"
"""The entry of a data set's metadata that holds the index of the histories, and their tasks."""
_BEST = "best_actions"


def to_minari(
    histories: Histories, dataset_id: str, tasks: TaskDistribution, **details: str
) -> "MinariDataset":
    """Write histories as a data set of Minari, to be loaded with ``minari.load_dataset``.

    Episodes follow each other as in the histories. The best actions of ``labels`` become infos.

    Args:
        histories: The histories.
        dataset_id: The name of the data set, such as ``"dark-room/searches-v0"``.
        tasks: The family that they were recorded in.
        details: What else the data set is to say, as ``minari.create_dataset_from_buffers`` takes
            it, such as ``author``, ``author_email`` and ``code_permalink``.

    Returns:
        The data set.

    Raises:
        ImportError: If Minari is not installed.
        ValueError: If the family has other spaces, or Minari has such a data set already.
    """
    try:
        import minari
    except ImportError as error:
        raise MissingPackageError(
            "to_minari needs minari: pip install 'metarl-suite[minari]'"
        ) from error
    with closing(tasks.make_vec(1)) as probe:
        spaces = {
            "observation_space": probe.single_observation_space,
            "action_space": probe.single_action_space,
        }
    for name, space in spaces.items():
        if differs := difference(histories.info[name], space):
            raise InvalidValueError(
                f"the histories were recorded in {histories.info['family']!r}, whose {name} is not "
                f"that of {tasks.label}: {differs}"
            )
    details = {
        "algorithm_name": histories.info["agent"],
        "description": _description(histories.info),
        **details,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of each detail that is left out
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            _episodes(histories, spaces["action_space"]),
            jpeg_encoding=False,  # which changes images
            **spaces,
            **details,
        )
    notes = {"index": histories.info, "tasks": histories.tasks.to_json()}
    dataset.storage.update_metadata({_NOTES: notes})
    return dataset


def _description(info: dict[str, Any]) -> str:
    return (
        f"{info['num_tasks']} histories of {info['agent']} in {info['family']}, one behind the "
        f"other, each of {info['num_episodes']} episodes of one task. {info['source']}"
    )


def _episodes(histories: Histories, action_space: Space) -> Iterator["EpisodeBuffer"]:
    """Yield all episodes, one history behind the other."""
    from minari.data_collector import EpisodeBuffer

    for history in histories:
        stops = [*history.starts[1:], len(history.rewards)]
        for episode, (start, stop) in enumerate(zip(history.starts, stops)):
            steps = slice(start, stop)
            infos = None
            if history.best_actions is not None:
                best = named_leaves(_BEST, action_space, history.best_actions)
                # Infos have a row more than there are steps: that of the reset.
                infos = {name: np.append(v[steps], v[stop - 1 : stop], 0) for name, v in best}
            yield EpisodeBuffer(
                observations=map_leaves(
                    lambda part, last: np.append(part[steps], last[episode, None], 0),  # noqa: B023
                    history.observations,
                    history.final_observations,
                ),
                actions=take(history.actions, steps),
                rewards=history.rewards[steps],
                terminations=history.terminated[steps],
                truncations=history.truncated[steps],
                infos=infos,
            )


def from_minari(
    dataset: "MinariDataset", folder: str | Path, *, num_episodes: int | None = None
) -> Path:
    """Write a data set of Minari as histories, for ``Histories`` and all that learns from them.

    What :func:`to_minari` has written becomes the same histories again. Of any other data set,
    successive episodes become a history, and each history counts as a task of its own.

    Args:
        dataset: The data set, from ``minari.load_dataset``.
        folder: Where the histories go.
        num_episodes: The episodes of each history; None if the data set says so itself.

    Returns:
        The folder.

    Raises:
        ValueError: If the number does not divide the episodes, agents do not support a space, or
            the folder holds histories.
    """
    metadata, total = dataset.storage.metadata, dataset.total_episodes
    notes = metadata.get(_NOTES)
    if notes is None:
        if num_episodes is None:
            raise InvalidValueError(
                f"{dataset.spec.dataset_id!r} does not say which episodes are of one task: pass "
                "num_episodes, of how many successive ones a history is made"
            )
        check_at_least(1, num_episodes=num_episodes)
        index = _index(dataset, metadata, num_episodes)
        tasks = Tasks(index["family"], {"history": np.arange(index["num_tasks"])})
    else:
        index, tasks = notes["index"], Tasks.from_json(notes["tasks"])
        check_entries(index, INDEX_ENTRIES)
        if num_episodes not in (None, index["num_episodes"]):
            raise InvalidValueError(
                f"the histories of {dataset.spec.dataset_id!r} have {index['num_episodes']} "
                f"episodes, not num_episodes={num_episodes}; leave it out"
            )
    num_episodes = index["num_episodes"]
    if not total or total % num_episodes or total // num_episodes != len(tasks):
        raise InvalidValueError(
            f"{dataset.spec.dataset_id!r} has {total} episodes, which are no whole number of "
            f"histories of num_episodes={num_episodes}"
        )
    folder = as_path(folder)
    check_no_link(folder)
    if (folder / INDEX).exists():
        raise InvalidValueError(f"{str(folder)!r} holds histories already; choose another folder")
    write_index(folder, index)
    per_shard = index["tasks_per_shard"]
    for shard, first in enumerate(range(0, len(tasks), per_shard)):
        present = tasks[first : first + per_shard]
        ids = dataset.episode_indices[first * num_episodes :][: len(present) * num_episodes]
        tensors = _tensors(dataset.iterate_episodes(ids), dataset, bool(index["labels"]))
        for name in tensors:
            if name == "lengths" or name.startswith("final_observations"):
                shape = (len(present), num_episodes, *tensors[name].shape[1:])
                tensors[name] = tensors[name].reshape(shape)
        write_shard(shard_path(folder, shard), tensors, present)
    return folder


def _index(dataset: "MinariDataset", metadata: dict[str, Any], num_episodes: int) -> dict[str, Any]:
    """Return the index of histories that are made of another's data set."""
    horizon = max(map(len, dataset.iterate_episodes()), default=1)
    spaces = (dataset.observation_space, dataset.action_space)
    step_bytes = 4 + sum(num_bytes(leaf) for space in spaces for _, leaf in leaves(space))
    return {
        "format": FORMAT,
        "agent": metadata.get("algorithm_name") or "unknown",
        "source": f"{dataset.spec.dataset_id}, a data set of Minari",
        "noise": [0.0, 0.0],
        "labels": "",
        "family": dataset.spec.dataset_id,
        "split": "train",
        "num_tasks": dataset.total_episodes // num_episodes,
        "num_episodes": num_episodes,
        "tasks_per_shard": max(1, SHARD_BYTES // (step_bytes * horizon * num_episodes)),
        "seed": 0,
        "observation_space": to_json(dataset.observation_space),
        "action_space": to_json(dataset.action_space),
        "horizon": horizon,
        "versions": versions(),
    }


def _tensors(
    episodes: Iterable["EpisodeData"], dataset: "MinariDataset", labels: bool
) -> dict[str, Array]:
    """Return the steps of successive episodes as the tensors of a shard."""
    parts: dict[str, list[Array]] = {}
    for episode in episodes:
        num_steps = len(episode)
        named = {
            "rewards": episode.rewards.astype(np.float32),
            "terminated": episode.terminations.astype(np.bool_),
            "truncated": episode.truncations.astype(np.bool_),
            "lengths": np.array([num_steps]),
            **_as_recorded("actions", dataset.action_space, episode.actions),
        }
        named["truncated"][-1] |= not named["terminated"][-1]  # where recording stopped
        observations = _as_recorded("observations", dataset.observation_space, episode.observations)
        for name, values in observations.items():
            named[name], named[f"final_{name}"] = values[:num_steps], values[num_steps:]
        if labels:  # by the names of their parts, which Minari nests
            for path, leaf in leaves(dataset.action_space):
                best = episode.infos[_BEST]
                for key in path:
                    best = best[str(key)]
                named["/".join([_BEST, *map(str, path)])] = best[:num_steps].astype(leaf.dtype)
        for name, values in named.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _as_recorded(prefix: str, space: Space, values: Values) -> dict[str, Array]:
    """Return the arrays of an episode by their names in a shard, of the types of the space."""
    named = zip(named_leaves(prefix, space, values), leaves(space))
    return {name: part.astype(leaf.dtype) for (name, part), (_, leaf) in named}
