"""Run directories: everything a training run writes, and everything needed to resume it.

::

    config.json           the configuration: enough to repeat the run, with versions and git commit
    progress.csv          the log, a row for each iteration
    events.out.tfevents.* the same for TensorBoard, and the adaptation curve
    teacher.safetensors   the agent that it learns from, if there is one
    checkpoint.safetensors   the newest checkpoint, until the run is complete
    agent.safetensors     the trained agent, once it is evaluated: the run is complete
    evaluation/           <split>.npz with raw returns, <split>.png with the adaptation curve

A run directory may come from an untrusted source: nothing is written through symbolic links in it.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger

from metarl.entries import COUNT, OBJECT, STRING, check_entries, integer, read_entries
from metarl.errors import StorageError, check_names, found_in
from metarl.evaluation.report import Report, versions
from metarl.experiments.runs.logs import ProgressCsv, TensorBoard, read_progress
from metarl.files import atomic_write, check_no_link, locked, remove_parts
from metarl.views import VIEW

MAX_WORKERS = 1024
MAX_PROCESSES = 4096
MAX_THREADS = 1024  # beyond thousands, PyTorch crashes

CONFIG = {  # what config.json must have for a run to be evaluated and resumed
    "agent": STRING,
    "tasks": STRING,
    "seed": integer(0),
    "device": STRING,
    "threads": integer(1, MAX_THREADS),
    "total_timesteps": COUNT,
    "hyperparameters": OBJECT,
    "evaluation": OBJECT,
    "evaluation.num_tasks": COUNT,
    "evaluation.num_episodes": (lambda v: v is None or COUNT[0](v), f"{COUNT[1]} or null"),
    "evaluation.seed": integer(0),
}


def _is_data(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"folder", "index_sha256"}
        and all(map(STRING[0], value.values()))
    )


def _is_teacher(value: Any) -> bool:
    if not isinstance(value, dict) or not all(
        STRING[0](value.get(n, "")) for n in ("agent", "sha256")
    ):
        return False
    if value.keys() == {"agent", "env_steps"}:  # a reference was not trained
        return bool(value["env_steps"] == 0)
    return value.keys() == {"agent", "sha256", "env_steps"} and COUNT[0](value["env_steps"])


TEACHER = (
    _is_teacher,
    "a saved agent, its SHA-256, and the env steps that it was trained for; or the name of a "
    "reference, and 0 env steps",
)

_OPTIONAL = {
    "view": VIEW,
    "data": (_is_data, "the folder of histories, and the SHA-256 of their index"),
    "start": STRING,
    "teacher": TEACHER,
    "with_oracle": (lambda v: v is True, "true"),
    "num_workers": integer(1, MAX_WORKERS),
    "eval_every": COUNT,
    "processes": integer(2, MAX_PROCESSES),
}


class Run:
    """A run directory.

    Use :meth:`create` or :meth:`open`.

    Attributes:
        directory: Where it is.
        config: What ``config.json`` holds.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any]):
        self.directory = directory
        self.config = dict(config)

    @classmethod
    def create(cls, directory: str | Path, config: Mapping[str, Any]) -> "Run":
        """Make a new run directory and write its configuration.

        Args:
            directory: Where; it must not exist, or be empty.
            config: JSON-able; versions and git commit are added.

        Raises:
            FileExistsError: If the directory is not empty.
        """
        directory = Path(directory)
        exists = FileExistsError(
            f"{str(directory)!r} exists already and is left as it is; choose another "
            f"directory, or continue that run with: metarl resume {shlex.quote(str(directory))}"
        )
        # A kill during the first write of config.json leaves a partial file; it is deleted.
        begun = set(directory.glob(".config.json.*"))
        if directory.exists() and (not directory.is_dir() or set(directory.iterdir()) - begun):
            raise exists
        run = cls(directory, {**config, "versions": versions(), "git_commit": git_commit()})
        text = json.dumps(run.config, indent=2) + "\n"
        try:  # if two processes begin the same run, one must fail
            atomic_write(directory / "config.json", text, exclusive=True)
        except FileExistsError:
            raise exists from None
        for part in begun:
            part.unlink(missing_ok=True)
        return run

    @classmethod
    def open(cls, directory: str | Path) -> "Run":
        """Open an existing run directory.

        Raises:
            FileNotFoundError: If it is not a run directory.
            ValueError: If its configuration is damaged; the message names the entry.
        """
        directory = Path(directory)
        path = directory / "config.json"
        if not path.is_file():
            known = sorted(str(other.parent) for other in directory.parent.glob("*/config.json"))
            hint = f"; runs there: {', '.join(known)}" if known else ""
            raise FileNotFoundError(
                f"{str(directory)!r} is not a run directory: it has no config.json{hint}"
            )
        config = read_entries(path, CONFIG)
        with found_in(f"{str(path)!r} is damaged"):
            check_entries(config, {n: _OPTIONAL[n] for n in _OPTIONAL if n in config})
            settings = [entry.partition(".")[2] for entry in CONFIG if "." in entry]
            check_names(config["evaluation"], settings, "entry of 'evaluation':")
        return cls(directory, config)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock the run, so that no other process trains it inside this ``with`` block.

        Raises:
            BlockingIOError: If another process holds the lock.
        """
        with locked(self.directory / "config.json") as free:
            if not free:
                raise BlockingIOError(
                    f"{str(self.directory)!r} is being trained by another process; wait for it, or "
                    "stop it"
                )
            yield

    @property
    def resume_command(self) -> str:
        """The command that continues the run."""
        return f"metarl resume {shlex.quote(str(self.directory))}"

    @property
    def processes(self) -> int:
        """How many processes train it together."""
        return int(self.config.get("processes", 1))

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.directory / "checkpoint.safetensors"

    @property
    def agent(self) -> Path:
        """The trained agent; the file exists once the run is complete."""
        return self.directory / "agent.safetensors"

    @property
    def teacher(self) -> Path:
        """Its own copy of the agent that it learns from, so that it resumes wherever it is."""
        return self.directory / "teacher.safetensors"

    @property
    def evaluation(self) -> Path:
        """The folder of evaluations."""
        return self.directory / "evaluation"

    def check_there(self) -> None:
        """Raise unless the run can be written to.

        Raises:
            OSError: If the run was removed, or its folder of evaluations is a symbolic link, which
                may lead anywhere.
        """
        check_no_link(self.evaluation)
        if not (self.directory / "config.json").is_file():
            raise StorageError(f"the run directory {str(self.directory)!r} is gone")

    def tidy(self) -> None:
        """Remove unfinished files that a kill has left, and a checkpoint no longer needed.

        Call this only while holding the run's lock.
        """
        self.check_there()
        for folder in (self.directory, self.evaluation):
            remove_parts(folder)
        if self.agent.exists():
            self.checkpoint.unlink(missing_ok=True)

    def progress(self) -> list[dict[str, str]]:
        """Return the rows of the log, one for each iteration.

        Raises:
            ValueError: If the log is damaged.
        """
        return read_progress(self.directory / "progress.csv")

    def logger(self, num_timesteps: int) -> Logger:
        """Open the logs, dropping their entries beyond ``num_timesteps``.

        Args:
            num_timesteps: The env steps of the state that training resumes from.
        """
        TensorBoard.cut(self.directory, num_timesteps)
        progress = ProgressCsv(self.directory / "progress.csv", num_timesteps)
        return Logger(str(self.directory), [progress, TensorBoard(self.directory)])

    def curve_logger(self) -> Logger:
        """Open TensorBoard for the adaptation curve, dropping an earlier curve."""
        suffix = ".curve"
        for earlier in self.directory.glob(f"events.out.tfevents.*{suffix}"):
            earlier.unlink()
        return Logger(str(self.directory), [TensorBoard(self.directory, suffix)])


def evaluation_name(report: Report, overrides: Sequence[str] = ()) -> str:
    """Return the file name of an evaluation that must not replace the run's own."""
    name = f"{report.split}-{report.num_tasks}x{report.num_episodes}-seed{report.seed}"
    return "-".join([name, *(re.sub(r"[^\w.=]+", "_", override) for override in overrides)])


def git_commit() -> str | None:
    """Return the working directory's commit, with ``+`` if it has changes; None outside git."""
    try:
        filters = _git("config", "-z", "--name-only", "--get-regexp", r"^filter\.", check=False)
        settings = dict.fromkeys(filters.split("\0")[:-1], "")
        options = ("--untracked-files=no", "--ignore-submodules=dirty", "--no-ahead-behind")
        status = _git("status", "--porcelain=v2", "--branch", *options, settings=settings)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = status.splitlines()
    commit = next(line.split()[-1] for line in lines if line.startswith("# branch.oid "))
    if commit == "(initial)":
        return None
    changed = any(not line.startswith("#") for line in lines)
    return f"{commit}+" if changed else commit


def _git(*words: str, check: bool = True, settings: Mapping[str, str] | None = None) -> str:
    """Return the output of a git command in a folder that may be untrusted.

    A repository's own configuration can name programs for git to run: hooks, a file monitor,
    filters, transports. None of them is run.

    Args:
        words: The command.
        check: Whether an exit status other than 0 is an error.
        settings: Further configuration, stronger than the repository's.
    """
    settings = {**(settings or {}), "core.fsmonitor": "false", "core.hooksPath": os.devnull}
    keys = {f"GIT_CONFIG_KEY_{i}": key for i, key in enumerate(settings)}
    values = {f"GIT_CONFIG_VALUE_{i}": value for i, value in enumerate(settings.values())}
    done = subprocess.run(
        ["git", *words],
        env={
            **os.environ,
            **keys,
            **values,
            "GIT_CONFIG_COUNT": str(len(settings)),
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_ALLOW_PROTOCOL": "none",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",  # names of files may be any bytes
        timeout=10,
        check=check,
    )
    return done.stdout
