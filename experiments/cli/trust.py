"""Which modules a run may import: those that the user has named on this machine.

A run directory is data, and may come from anybody. The things in it that lead to code are the
names of its family and its agent where these are ``module:attribute``: importing the module runs
it. So a module is imported for a run only from where the user has named it before: in
``metarl train``, or with
``--trust``. What was named is remembered, by its file, in ``~/.config/metarl/trusted`` (or below
``$XDG_CONFIG_HOME``), a line for each; lines may be deleted. Nothing inside a run directory is ever
imported.
"""

import contextlib
import os
from pathlib import Path

from metarl.envs.custom.loading import locate
from metarl.errors import InvalidValueError


def check_trusted(name: str, directory: Path, named: str | None) -> None:
    """Raise unless a run's family or agent may be imported.

    Args:
        name: Its name in the run.
        directory: The run directory.
        named: The module that the user trusts on this command line, if any.

    Raises:
        ValueError: If the user has not named the module; the message explains how to.
    """
    location = locate(name)
    if location is None:  # comes with metarl
        return
    module = name.partition(":")[0]
    if Path(location).resolve().is_relative_to(directory.resolve()):
        raise InvalidValueError(
            f"the run's {name!r} is in the run directory, from which nothing is imported; "
            f"move {location!r} to where you work if you trust its code"
        )
    if named != module and location not in _remembered():
        raise InvalidValueError(
            f"the run's {name!r} is code in {location!r}, which you have not named before; "
            f"if you trust that file, add: --trust {module}"
        )


def remember(name: str) -> None:
    """Remember a family or agent that the user named."""
    location = locate(name)
    if location is None or not location.isprintable() or location in _remembered():
        return
    with contextlib.suppress(OSError):  # without a writable home, --trust is needed each time
        _list().parent.mkdir(parents=True, exist_ok=True)
        with _list().open("a", encoding="utf-8") as file:
            file.write(f"{location}\n")


def _remembered() -> list[str]:
    try:
        return _list().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _list() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "metarl" / "trusted"
