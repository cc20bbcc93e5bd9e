"""Archives: a JSON header and arrays in one file, which NumPy reads.

It is a zip archive of ``header.json`` and an ``.npy`` file for each array; nothing in it is
executed. No part of metarl is needed to read one::

    archive = numpy.load("held_out.npz")
    archive["returns"]                  # an array of shape (num_tasks, num_episodes)
    json.loads(archive["header.json"])  # agent, family, split, seed, versions, ...

Arrays called ``tasks/PARAMETER`` are the columns of tasks. Evaluations of several agents have the
same: compact archives of one folder share them, in ``tasks/HASH.npz`` beside them, where ``HASH``
is the entry ``tasks_file`` of their headers.
"""

import functools
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metarl.entries import check_entries, parse_json
from metarl.errors import InvalidValueError, printable
from metarl.files import atomic_write

Header: TypeAlias = dict[str, Any]
Arrays: TypeAlias = dict[str, NDArray[Any]]

SUFFIX = ".npz"
TASKS = "tasks/"
"""How the names of the arrays begin that are columns of tasks."""

_HEADER = "header.json"
_TASKS_FILE = "tasks_file"
_SMALL = 4096  # what is smaller gains nothing from LZMA, which takes its time to begin
_MOST_BYTES = 2**30  # a small file may unpack to more than the memory holds


def write_archive(
    path: Path,
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    compact: bool = False,
) -> None:
    """Write an archive; the same content gives the same bytes.

    Args:
        path: The file.
        header: JSON-able.
        arrays: Arrays by name.
        compact: Whether tasks go to a file that the archives of the folder share, and all is
            packed as tightly as can be: for files that a repository keeps.
    """
    if compact:
        tasks = {name: array for name, array in arrays.items() if name.startswith(TASKS)}
        arrays = {name: array for name, array in arrays.items() if name not in tasks}
        if tasks:
            digest = _digest(tasks)
            header = {**header, _TASKS_FILE: digest}
            if not _tasks_file(path, digest).exists():
                atomic_write(_tasks_file(path, digest), _pack({}, tasks, zipfile.ZIP_LZMA))
    method = zipfile.ZIP_LZMA if compact else zipfile.ZIP_DEFLATED
    atomic_write(path, _pack(header, arrays, method))


def read_archive(path: Path) -> tuple[Header, Arrays]:
    """Read an archive: its header, and all arrays with those that it shares.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged.
    """
    header, arrays = _unpack(path)
    digest = header.pop(_TASKS_FILE, None)
    if digest is not None:
        shared = _tasks_file(path, str(digest))
        if not re.fullmatch("[0-9a-f]{16}", str(digest)) or not shared.is_file():
            raise InvalidValueError(
                f"{str(path)!r} is damaged: {_TASKS_FILE!r} must name a file in "
                f"{str(shared.parent)!r}, got {digest!r:.50}"
            )
        arrays |= _shared_tasks(shared, shared.stat().st_mtime_ns)
    return header, arrays


def archive_files(path: Path) -> list[Path]:
    """Return the files that an archive consists of, itself as the last."""
    digest = _unpack(path)[0].get(_TASKS_FILE)
    return [*([_tasks_file(path, digest)] if digest else []), path]


def smallest(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in the smallest type that has exactly these values."""
    if numbers.dtype.kind == "f":
        if not ((numbers == np.rint(numbers)) & (np.abs(numbers) < 2**53)).all():
            with np.errstate(over="ignore"):
                single = numbers.astype(np.float32)
            return single if (single == numbers).all() else numbers
        numbers = numbers.astype(np.int64)
    low, high = int(numbers.min()), int(numbers.max())
    return numbers.astype(np.min_scalar_type(high if low >= 0 else min(low, -high - 1)))


@functools.lru_cache(maxsize=8)  # the records of a folder are read one after the other
def _shared_tasks(path: Path, _modified: int) -> Arrays:
    _, tasks = _unpack(path)
    if _digest(tasks) != path.stem:
        raise InvalidValueError(f"{str(path)!r} is damaged: it does not match its name")
    return tasks


def _tasks_file(path: Path, digest: str) -> Path:
    return path.parent / TASKS / f"{digest}{SUFFIX}"


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _pack(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], method: int) -> bytes:
    contents = {_HEADER: json.dumps(header).encode()}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        contents[f"{name}.npy"] = stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in contents.items():  # a ZipInfo has no date: the bytes stay the same
            small = len(content) <= _SMALL
            archive.writestr(
                zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED if small else method
            )
    return stream.getvalue()


def _unpack(path: Path) -> tuple[Header, Arrays]:
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise InvalidValueError("it holds more than a gigabyte")
            header = parse_json(archive.read(_HEADER))
            check_entries(header, {})
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(name)), allow_pickle=False
                )
                for name in archive.namelist()
                if name != _HEADER
            }
    except Exception as error:  # a file of any origin may be wrong in any way
        text = printable(str(error))
        raise InvalidValueError(
            f"{str(path)!r} is not an archive of metarl, or it is damaged ({text:.200})"
        ) from None
    return header, arrays
