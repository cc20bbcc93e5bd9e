"""Files that are whole at every moment."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metarl.errors import InvalidValueError, StorageError, check_types

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PART = ".part"


def as_path(path: object) -> Path:
    """Return a path given as a string or a path.

    Raises:
        TypeError: If it is something else.
        ValueError: If no file can have that name.
    """
    check_types((str, os.PathLike), "the name of a file or folder", path=path)
    if "\0" in str(path):
        raise InvalidValueError(f"no file can be called {str(path)!r}")
    return Path(path)  # type: ignore[arg-type]


def atomic_write(path: str | Path, data: bytes | str, *, exclusive: bool = False) -> None:
    """Write a file so that a reader or a crash at any moment finds the old one or the new one.

    Args:
        path: Where to write. Missing parent folders are made.
        data: The content; text is written as UTF-8.
        exclusive: Whether an existing file is left as it is. Of several processes that try, one
            succeeds.

    Raises:
        FileExistsError: If ``exclusive`` is set and the file exists.
        OSError: If it cannot be written.
    """
    path = as_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            if exclusive:
                os.link(temporary, path)  # unlike a replacement, fails where there is a file
                os.unlink(temporary)
            else:
                os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:  # it names the temporary file, or none
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Lock a file for a while, and say whether that worked: whether no other process has it.

    The lock ends with the process, however that ends. Where there is no ``flock`` (Windows),
    nothing is locked. A missing file is made.
    """
    with Path(path).open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True


def remove_parts(folder: str | Path) -> None:
    """Remove what :func:`atomic_write` left in a folder where a kill cut it short."""
    for part in Path(folder).glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let a power failure not undo a change of name."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
