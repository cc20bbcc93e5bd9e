"""What users can fix: the classes of its errors, and helpers for messages that say how.

Every error that a user can fix is a :class:`MetarlError` whose message is one sentence: the value
that was given, what was expected, what to do. The command line prints that sentence. Anything else
that is raised is a bug, of ours or of the user's environment, and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class MetarlError(Exception):
    """An error that the user can fix; its message says how."""


class InvalidValueError(MetarlError, ValueError):
    """A value that is out of its range, unknown, or does not fit another."""


class InvalidTypeError(MetarlError, TypeError):
    """A value of the wrong type."""


class DivergedError(InvalidValueError):
    """A training whose numbers are no longer finite."""


class MissingPackageError(MetarlError, ImportError):
    """A package that is not installed, or too old."""


class RenderingError(MetarlError, RuntimeError):
    """There is nothing to draw with."""


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Return what to append to an "unknown name" message: the closest name, or all names."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is known"


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise for the first name in ``given`` that is not in ``known``.

    Raises:
        ValueError: With the unknown name and the closest known one.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise InvalidValueError(f"unknown {what} {name!r}; {did_you_mean(name, known)}")


def check_at_least(minimum: float, **values: float) -> None:
    """Raise for the first keyword argument below ``minimum``, naming it.

    Raises:
        ValueError: With the name, the value got and the value expected.
    """
    for name, value in values.items():
        if not value >= minimum:
            raise InvalidValueError(f"{name} must be at least {minimum}, got {value}")
