"""How histories lie on disk: an index, and shards of whole histories.

``index.json`` says what was recorded. Shard i is ``00000i.safetensors`` with all steps of its
tasks, one task behind the other and each in the order of learning:

| tensor | shape | what it is |
|---|---|---|
| ``observations`` | (steps, ...) | what actions were chosen from; ``observations/KEY`` of a Dict |
| ``actions`` | (steps, ...) | ``actions/KEY`` of a Dict |
| ``rewards`` | (steps,) | float32 |
| ``terminated``, ``truncated`` | (steps,) | how the step ended the episode, if it did |
| ``lengths`` | (tasks, episodes) | the steps of each episode |
| ``best_actions`` | (steps, ...) | what an oracle would have done, if it was asked |
| ``final_observations`` | (tasks, episodes, ...) | what followed the last step of each |

Its metadata has the ``tasks``, as JSON. Nothing of it is code.
"""

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import save

from metarl.entries import COUNT, NUMBER, OBJECT, STRING, Rule, integer, read_entries
from metarl.errors import InvalidValueError
from metarl.files import atomic_write
from metarl.tasks import Tasks

FORMAT = 1
INDEX = "index.json"
SHARD_BYTES = 64 * 2**20
"""About how large a shard gets."""


def _are_shares(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(map(NUMBER[0], value))
    return numbers and all(0 <= share <= 1 for share in value)


INDEX_ENTRIES: dict[str, Rule] = {
    "format": (lambda v: v == FORMAT and type(v) is int, f"{FORMAT}"),
    "agent": STRING,
    "source": STRING,
    "noise": (_are_shares, "two numbers from 0 to 1"),
    "labels": STRING,
    "family": STRING,
    "split": STRING,
    "num_tasks": COUNT,
    "num_episodes": COUNT,
    "tasks_per_shard": COUNT,
    "seed": integer(0),
    "observation_space": OBJECT,
    "action_space": OBJECT,
    "horizon": COUNT,
    "versions": OBJECT,
}


def shard_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"{shard:06d}.safetensors"


def read_index(folder: Path) -> dict[str, Any]:
    """Read what a folder of histories says of itself.

    Raises:
        FileNotFoundError: If it has no index.
        ValueError: If the index is damaged.
    """
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no histories: there is no {INDEX}")
    return read_entries(path, INDEX_ENTRIES)


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write what a folder of histories says of itself."""
    atomic_write(folder / INDEX, json.dumps(index, indent=1) + "\n")


def write_shard(path: Path, tensors: dict[str, NDArray[Any]], tasks: Tasks) -> None:
    """Write the histories of some tasks; the same ones give the same bytes."""
    # Several entries of metadata would be written in an order that changes from run to run.
    header = {"tasks": json.dumps(tasks.to_json(), separators=(",", ":"))}
    atomic_write(path, save(tensors, header))


def damaged(path: Path, why: object) -> InvalidValueError:
    """Return what is raised for a shard that cannot be read."""
    return InvalidValueError(
        f"{str(path)!r} is damaged: {why}; delete it and record again with the same command"
    )
