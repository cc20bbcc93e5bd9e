"""Run directories: everything a training run leaves behind, and all that is needed to resume it.

::

    config.json           what was run: enough to repeat it, with versions and git commit
    progress.csv          the log, a row for each iteration
    events.out.tfevents.* the same for TensorBoard, and the adaptation curve
    checkpoint.safetensors   the newest checkpoint, until the run is complete
    agent.safetensors     the trained agent, once it is evaluated: the run is complete
    evaluation/           <split>.json with raw returns, <split>.png with the adaptation curve
"""

import contextlib
import csv
import io
import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import (
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
    filter_excluded_keys,
)
from torch.utils.tensorboard.writer import SummaryWriter

from metarl.entries import COUNT, OBJECT, STRING, check_entries, integer
from metarl.errors import InvalidValueError
from metarl.files import atomic_write
from metarl.report import versions

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_CONFIG = {  # what config.json must have for a run to be evaluated and resumed
    "agent": STRING,
    "tasks": STRING,
    "seed": integer(0),
    "device": STRING,
    "threads": COUNT,
    "total_timesteps": COUNT,
    "hyperparameters": OBJECT,
    "evaluation": OBJECT,
    "evaluation.num_tasks": COUNT,
    "evaluation.num_episodes": (lambda v: v is None or COUNT[0](v), f"{COUNT[1]} or null"),
    "evaluation.seed": integer(0),
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
        # A kill during the first write of config.json leaves a part of it, which nobody needs.
        begun = set(directory.glob(".config.json.*"))
        if directory.exists() and (not directory.is_dir() or set(directory.iterdir()) - begun):
            raise exists
        run = cls(directory, {**config, "versions": versions(), "git_commit": git_commit()})
        text = json.dumps(run.config, indent=2) + "\n"
        try:  # of two processes that begin the same run, one must fail
            atomic_write(directory / "config.json", text, exclusive=True)
        except (FileExistsError, FileNotFoundError):
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
        try:
            config = json.loads(path.read_text())
            check_entries(config, _CONFIG)
        except ValueError as error:
            raise InvalidValueError(f"{str(path)!r} is damaged: {error}") from None
        return cls(directory, config)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from training the same run for a while.

        The lock ends with the process, however that ends. Where there is no ``flock`` (Windows),
        nothing is locked.

        Raises:
            BlockingIOError: If another process has the run.
        """
        with (self.directory / "config.json").open("r+") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BlockingIOError(
                        f"{str(self.directory)!r} is being trained by another process; wait for "
                        "it, or stop it first"
                    ) from None
            yield

    @property
    def resume_command(self) -> str:
        """What to type to continue the run."""
        return f"metarl resume {shlex.quote(str(self.directory))}"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.directory / "checkpoint.safetensors"

    @property
    def agent(self) -> Path:
        """The trained agent; the file exists once the run is complete."""
        return self.directory / "agent.safetensors"

    @property
    def evaluation(self) -> Path:
        """The folder of evaluations."""
        return self.directory / "evaluation"

    def progress(self) -> list[dict[str, str]]:
        """Return the rows of the log, one for each iteration."""
        with (self.directory / "progress.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def logger(self, num_timesteps: int) -> Logger:
        """Open the logs, dropping what they hold beyond ``num_timesteps``.

        A run that was killed has logged iterations after its last checkpoint; they are about to
        be repeated, and logged again.

        Args:
            num_timesteps: The env steps of the state that training resumes from.
        """
        outputs = [
            _ProgressCsv(self.directory / "progress.csv", num_timesteps),
            _TensorBoard(self.directory, purge_step=num_timesteps + 1),
        ]
        return Logger(str(self.directory), outputs)

    def curve_logger(self) -> Logger:
        """Open TensorBoard for the adaptation curve, dropping one that was drawn before."""
        suffix = ".curve"
        for earlier in self.directory.glob(f"events.out.tfevents.*{suffix}"):
            earlier.unlink()
        return Logger(str(self.directory), [_TensorBoard(self.directory, filename_suffix=suffix)])


class _ProgressCsv(KVWriter):
    """The log as CSV, resumed after the rows up to a number of env steps."""

    def __init__(self, path: Path, num_timesteps: int):
        self._path = path
        self._columns: list[str] = []
        kept = [
            row
            for row in self._read()
            if float(row.get("time/total_timesteps") or "inf") <= num_timesteps
        ]
        self._columns = sorted(kept[0]) if kept else []
        self._rewrite(kept)

    def _read(self) -> list[dict[str, str]]:
        if not self._path.is_file():
            return []
        # A kill may have cut the last line short.
        whole = self._path.read_text().rpartition("\n")[0]
        return list(csv.DictReader(io.StringIO(whole)))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        if self._columns:
            writer = csv.DictWriter(text, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        atomic_write(self._path, text.getvalue())

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0
    ) -> None:
        row = filter_excluded_keys(key_values, key_excluded, "csv")
        if not row:  # all of it is for TensorBoard only
            return
        if not row.keys() <= set(self._columns):
            earlier = self._read()
            self._columns = sorted({*self._columns, *row})
            self._rewrite(earlier)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    def close(self) -> None:
        """Nothing stays open between rows."""


class _TensorBoard(TensorBoardOutputFormat):
    """SB3's TensorBoard format, with options for the writer."""

    def __init__(self, folder: Path, **options: Any):
        self.writer = SummaryWriter(log_dir=str(folder), **options)  # type: ignore[no-untyped-call]
        self._is_closed = False


def git_commit() -> str | None:
    """Return the working directory's commit, with ``+`` if it has changes; None outside git."""
    try:
        revision = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.stdout.strip() or None
