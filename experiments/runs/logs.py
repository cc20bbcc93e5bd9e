"""The logs of a run: progress.csv, and events for TensorBoard. A resumed run continues them.

A killed run may have logged iterations after its last checkpoint. Resuming repeats these iterations
and logs them again, so a log is first cut back to the checkpoint.
"""

import csv
import io
import time
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Figure, KVWriter, filter_excluded_keys
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from metarl.errors import InvalidValueError, StorageError
from metarl.files import atomic_write, check_no_link, open_to_write

STEPS = "time/total_timesteps"
_EVENTS = "events.out.tfevents."


def read_progress(path: Path) -> list[dict[str, str]]:
    """Return the rows of a progress.csv, without a last line that was cut short by a kill.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        text = path.read_bytes().decode()
        rows = list(csv.reader(io.StringIO(text.rpartition("\n")[0]), strict=True))
        columns = rows[0] if rows else []
        for number, row in enumerate(rows[1:], start=2):
            if len(row) != len(columns):
                raise ValueError(f"row {number} has {len(row)} cells of {len(columns)}")
            float(row[columns.index(STEPS)] or "inf")
    except (ValueError, csv.Error) as error:
        raise InvalidValueError(
            f"{str(path)!r} is damaged: {error}; training does not need it: move it away to go on"
        ) from None
    return [dict(zip(columns, row)) for row in rows[1:]]


class ProgressCsv(KVWriter):
    """The log as CSV, resumed after the rows up to a number of env steps.

    Raises:
        ValueError: If the file is damaged.
    """

    def __init__(self, path: Path, num_timesteps: int):
        self._path = path
        self._columns: list[str] = []
        earlier = read_progress(path) if path.is_file() else []
        kept = [row for row in earlier if float(row[STEPS] or "inf") <= num_timesteps]
        self._columns = sorted(kept[0]) if kept else []
        self._rewrite(kept)

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
        if not row:  # only values for TensorBoard
            return
        if not row.keys() <= set(self._columns):
            earlier = read_progress(self._path)
            self._columns = sorted({*self._columns, *row})
            self._rewrite(earlier)
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(row)
        _append(self._path, text.getvalue().encode())

    def close(self) -> None:
        """Nothing stays open between rows."""


class TensorBoard(KVWriter):
    """The log as TensorBoard reads it: numbers, and pictures in colour.

    Each process of a run writes its own file, because a running TensorBoard never reads the
    beginning of a file twice. Numbers in the names keep the files in order.

    Args:
        folder: The run directory.
        suffix: The end of the file's name.
    """

    def __init__(self, folder: Path, suffix: str = ""):
        names = [path.name.removeprefix(_EVENTS) for path in folder.glob(f"{_EVENTS}*")]
        taken = [int(name.partition(".")[0]) for name in names if name.partition(".")[0].isdigit()]
        self._path = folder / f"{_EVENTS}{max(taken, default=0) + 1:010d}{suffix}"
        self._add(file_version="brain.Event:2")

    @staticmethod
    def cut(folder: Path, num_timesteps: int) -> None:
        """Drop the entries of a run's files beyond a number of env steps."""
        for path in folder.glob(f"{_EVENTS}*"):
            check_no_link(path)
            if not path.is_file():
                raise StorageError(f"{str(path)!r} is not a file; remove it to go on")
            size = 0
            for record in RawEventFileLoader(str(path)).Load():  # skips an incomplete last record
                if Event.FromString(record).step > num_timesteps:
                    break
                size += len(record) + 16  # with its length and two checksums
            with open_to_write(path, "rb+") as file:
                file.truncate(size)

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0
    ) -> None:
        values = filter_excluded_keys(key_values, key_excluded, "tensorboard")
        self._add(step=step, summary=Summary(value=map(_value, values, values.values())))

    def _add(self, **content: Any) -> None:
        record = io.BytesIO()
        event = Event(wall_time=time.time(), **content)
        RecordWriter(record).write(event.SerializeToString())
        _append(self._path, record.getvalue())

    def close(self) -> None:
        """Nothing stays open between rows."""


def _value(tag: str, value: Any) -> Summary.Value:
    if not isinstance(value, Figure):
        return Summary.Value(tag=tag, simple_value=float(value))
    picture = value.figure
    png = io.BytesIO()
    picture.savefig(png, format="png", dpi=picture.dpi)
    width, height = picture.canvas.get_width_height()
    return Summary.Value(
        tag=tag,
        image=Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=png.getvalue()
        ),
    )


def _append(path: Path, data: bytes) -> None:
    try:
        with open_to_write(path, "ab") as file:
            file.write(data)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}") from error
