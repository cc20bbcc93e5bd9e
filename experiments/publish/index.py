"""The index of published runs: what lists and plans read without opening the records."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metarl.experiments.cli.overrides import overrides_in
from metarl.experiments.runs.records import num_steps
from metarl.views import View

INDEX = Path(__file__).parents[1] / "results" / "index.json"
"""It comes with metarl, for all runs; the records and agents of most are in the repository only."""


@dataclass(frozen=True)
class Published:
    """A published run.

    Attributes:
        name: Its name, as ``rl2-gridnavi-seed0``.
        agent: The agent's name on the command line.
        tasks: The family's.
        view: The view of the family.
        seed: The seed.
        options: What differs from the preset: hyperparameters, a start, a teacher.
        steps: Env steps of training, or gradient steps of a learner from stored data.
        seconds: The duration of the training.
        first: The mean return of the first round of episodes on held-out tasks.
        last: That of the last one.
        where: Where the agent is: ``"wheel"``, ``"repository"``, or ``""`` if it was not kept.
    """

    name: str
    agent: str
    tasks: str
    view: View
    seed: int
    options: Sequence[str]
    steps: int
    seconds: float
    first: float
    last: float
    where: str


def index_of(results: Iterable[tuple[Path, Mapping[str, Any]]], pyproject: str) -> list[Published]:
    """Return the index of records.

    Args:
        results: The file of each record, and the record.
        pyproject: The text of ``pyproject.toml``, which names the agents of the wheel.
    """
    in_wheel = re.findall(r'"results/runs/([\w.-]+)\.\*"', pyproject)
    found = []
    for path, record in results:
        config, report = record["config"], record["report"]
        options = overrides_in(config["command"])
        options += [name for name in ("start", "teacher") if config.get(name)]
        where = "wheel" if path.stem in in_wheel else "repository"
        found.append(
            Published(
                name=path.stem,
                agent=config["agent"],
                tasks=config["tasks"],
                view=config.get("view", {}),
                seed=config["seed"],
                options=options,
                steps=num_steps(record),
                seconds=record["training_seconds"],
                first=float(f"{np.mean(report.first):.4g}"),
                last=float(f"{np.mean(report.last):.4g}"),
                where=where if path.with_suffix(".safetensors").is_file() else "",
            )
        )
    return found


def as_lines(index: Iterable[Published]) -> str:
    """Return an index as JSON, a line for each run."""
    return "[\n" + ",\n".join(json.dumps(asdict(each)) for each in index) + "\n]\n"


def read_index() -> list[Published]:
    """Return all published runs."""
    return [Published(**entry) for entry in json.loads(INDEX.read_text())]


def expected_minutes(agent: str, tasks: str, steps: int) -> tuple[float, float] | None:
    """Return how long a training takes at the rates of published ones: the least and the most.

    They were measured with one thread, on machines that also did other things.

    Args:
        agent: The agent's name on the command line.
        tasks: The family's.
        steps: The steps of the training.

    Returns:
        None if no such agent has been published for the family.
    """
    minutes = [
        each.seconds / each.steps * steps / 60
        for each in read_index()
        if (each.agent, each.tasks) == (agent, tasks) and not each.options
    ]
    return (min(minutes), max(minutes)) if minutes else None


def in_minutes(found: tuple[float, float] | None) -> str:
    """Return what :func:`expected_minutes` found in words."""
    if found is None:
        return "not measured"
    low, high = (f"{minutes:.0f}" if minutes >= 1 else "1" for minutes in found)
    return f"{low} min" if low == high else f"{low} to {high} min"
