"""Files that are complete at every moment, and never written through symbolic links.

A folder may come from an untrusted source, and a symbolic link in it could redirect writes. Nothing
here writes through a link that replaces a file, and :func:`check_no_link` rejects one that replaces
a folder.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

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
    """Write a file atomically: readers, and a crash at any moment, see the old or the new file.

    A symbolic link of that name is replaced; its target is left unchanged.

    Args:
        path: Where to write. Missing parent folders are made.
        data: The content; text is written as UTF-8.
        exclusive: Whether to leave an existing file unchanged. If several processes try, one
            succeeds.

    Raises:
        FileExistsError: If ``exclusive`` is set and the file exists.
        OSError: If it cannot be written.
    """
    path = as_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PART}")
        try:
            with temporary.open("xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            if exclusive:
                os.link(temporary, path)  # unlike a replacement, fails where there is a file
                temporary.unlink()
            else:
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:  # it names the temporary file, or none
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def open_to_write(path: str | Path, mode: str) -> IO[Any]:
    """Open a file for writing, unless it is a symbolic link.

    Args:
        path: The file.
        mode: As of :func:`open`.

    Raises:
        StorageError: If it is a link, or cannot be opened.
    """
    path = as_path(path)
    try:
        return open(path, mode, opener=_without_links)
    except OSError as error:
        if error.errno == errno.ELOOP:
            check_no_link(path)
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def check_no_link(path: str | Path) -> None:
    """Raise if a file or folder to write to is a symbolic link.

    Raises:
        StorageError: If it is.
    """
    if os.path.islink(path):
        raise StorageError(
            f"{str(path)!r} is a symbolic link to {os.readlink(path)!r}, and nothing is written "
            "through links here; replace it by the file or folder itself, or remove it"
        )


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Lock a file inside a ``with`` block; yield whether no other process holds the lock.

    The lock ends with the process, even if that is killed. Without ``flock`` (Windows) nothing is
    locked. A missing file is created.
    """
    with open_to_write(path, "ab") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True


def remove_parts(folder: str | Path) -> None:
    """Remove partial files that a killed :func:`atomic_write` has left in a folder."""
    for part in Path(folder).glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a change of name survive a power failure."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
