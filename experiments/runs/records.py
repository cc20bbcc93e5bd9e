"""Stored records of trainings, and of evaluations in studies; every entry is checked when read.

A training's record has the run's configuration, the env steps and duration of the training, and the
report of its evaluation. A record of a study has the report of one learner.
"""

import shlex
from pathlib import Path
from typing import Any

from metarl import Report
from metarl.entries import COUNT, NUMBER, OBJECT, STRING, Rule, check_entries, read_entries
from metarl.errors import found_in
from metarl.experiments.runs.run import CONFIG
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
    "config.git_commit": (lambda v: v is None or STRING[0](v), f"{STRING[1]} or null"),
    "env_steps": COUNT,
    "training_seconds": (lambda v: NUMBER[0](v) and v >= 0, "a number of at least 0"),
    "report": OBJECT,
}


def load_training(path: Path) -> dict[str, Any]:
    """Read the record of a training.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged; the message names the file and the entry.
    """
    record = read_entries(path, _TRAINING)
    with found_in(f"{str(path)!r} is damaged"):
        if record["config"].get("start") is not None:
            check_entries(record, {"config.start": STRING})
        if "view" in record["config"]:
            check_entries(record, {"config.view": VIEW})
        Report.from_json(record["report"])
    return record


def load_evaluation(path: Path) -> tuple[Report, dict[str, Any]]:
    """Read the record of an evaluation in a study: the report, and all of it.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged; the message names the file and the entry.
    """
    record = read_entries(path, {"report": OBJECT})
    with found_in(f"{str(path)!r} is damaged"):
        if record.get("seconds") is not None:  # early ones lack it
            check_entries(record, {"seconds": NUMBER})
        return Report.from_json(record["report"]), record
