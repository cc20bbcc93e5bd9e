"""Stored records of trainings, and of evaluations in studies; every entry is checked when read.

A record is an archive (:mod:`metarl.evaluation.archive`) with a report. A training's header also
has the run's configuration, its env steps (gradient steps, if it learned from stored data) and the
duration of the training; that of a study says what was evaluated.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl import Report
from metarl.entries import COUNT, NUMBER, OBJECT, STRING, Rule, check_entries, optional
from metarl.errors import found_in
from metarl.evaluation.archive import read_archive
from metarl.experiments.runs.run import CONFIG, TEACHER
from metarl.views import VIEW


def _is_command(value: Any) -> bool:
    try:
        return STRING[0](value) and bool(shlex.split(value))
    except ValueError:  # a quotation is not closed
        return False


_TRAINING: dict[str, Rule] = {
    "config": OBJECT,
    **{f"config.{entry}": rule for entry, rule in CONFIG.items()},
    "config.command": (_is_command, "a command line"),
    "config.git_commit": optional(STRING),
    "config.start": optional(STRING),
    "config.teacher": optional(TEACHER),
    "config.view": optional(VIEW),
    "env_steps": optional(COUNT),
    "gradient_steps": optional(COUNT),
    "training_seconds": (lambda v: NUMBER[0](v) and v >= 0, "a number of at least 0"),
    "agent_in_history": optional(STRING),
    "report": OBJECT,
}
_EVALUATION: dict[str, Rule] = {"report": OBJECT, "seconds": optional(NUMBER)}


def num_steps(record: Mapping[str, Any]) -> int:
    """Return the steps of a training, of the kind that its learner counts."""
    return int(record.get("env_steps") or record.get("gradient_steps") or 0)


def steps_in_words(record: Mapping[str, Any]) -> str:
    """Return the env steps of a training, in millions; or its gradient steps, called so."""
    if record.get("env_steps"):
        return f"{record['env_steps'] / 1e6:.1f}M"
    return f"{num_steps(record):,} gradient steps"


def load_training(path: Path) -> dict[str, Any]:
    """Read the record of a training: its header, with the report in it as a :class:`Report`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged; the message names the file and the entry.
    """
    return _load(path, _TRAINING)


def load_evaluation(path: Path) -> dict[str, Any]:
    """Read the record of an evaluation in a study, as :func:`load_training` does.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged; the message names the file and the entry.
    """
    return _load(path, _EVALUATION)


def _load(path: Path, rules: Mapping[str, Rule]) -> dict[str, Any]:
    header, arrays = read_archive(path)
    with found_in(f"{str(path)!r} is damaged"):
        check_entries(header, rules)
        return {**header, "report": Report.from_archive(header["report"], arrays)}
