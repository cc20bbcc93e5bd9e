"""The storage of trials: Optuna's journal, with locks that end with their process."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.errors import InvalidValueError, MetarlError, MissingPackageError
from metarl.files import check_no_link, locked, open_to_write

if TYPE_CHECKING:
    import optuna

_START = b'{"op_code":'


def import_optuna() -> Any:
    """Import Optuna, which is slow to import.

    Raises:
        MissingPackageError: If it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingPackageError(
            "the search needs Optuna, which is not installed; install it with: "
            "pip install 'metarl-suite[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@contextlib.contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Lock a file as soon as no other process holds the lock."""
    while True:
        with locked(path) as mine:
            if mine:
                yield
                return
        time.sleep(0.01)


def open_journal(path: Path, locks: Path) -> "optuna.storages.JournalStorage":
    """Open a journal, or create one.

    Args:
        path: The journal.
        locks: The folder of its lock.

    Raises:
        ValueError: If the file is no journal; it is left unchanged.
    """
    check_no_link(path)
    if path.exists():
        with path.open("rb") as file:
            start = file.read(len(_START))
        if not _START.startswith(start):  # a kill may have cut the first line short
            raise InvalidValueError(
                f"{str(path)!r} is no journal of Optuna, it starts with {start!r}; name another "
                "file with --storage"
            )
    storages = import_optuna().storages
    lock = _JournalLock(path, locks)
    backend = storages.journal.JournalFileBackend(str(path), lock_obj=lock)
    with reading(path):
        journal: optuna.storages.JournalStorage = storages.JournalStorage(backend)
    return journal


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error that Optuna raises for a damaged journal into one clear message.

    Optuna does not check its journal, so a damaged one can raise any kind of error.

    Args:
        path: The journal.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, MetarlError) else f"{type(error).__name__}: "
        what = " ".join(f"{kind}{error}".split())
        raise InvalidValueError(
            f"the journal {str(path)!r} is damaged ({what:.300}); restore an undamaged one, or "
            "name another file with --storage"
        ) from None


class _JournalLock:
    """The lock of Optuna's journal; unlike Optuna's own locks, it ends with its process.

    A kill may cut a line short and make the journal unreadable; acquiring the lock removes the
    incomplete line.
    """

    def __init__(self, journal: Path, folder: Path):
        self._journal, self._folder = journal, folder
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        self._held.enter_context(waiting_for(self._folder / "journal"))
        with open_to_write(self._journal, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._held.close()
