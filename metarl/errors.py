"""Errors that users can fix, and helpers for their messages.

Every error that a user can fix is a :class:`MetarlError` whose message is one sentence: the value
received, the value expected, the fix. The command line prints that sentence. Any other exception is
a bug, in metarl or in the user's environment, and keeps its traceback.
"""

import contextlib
import difflib
import numbers
from collections.abc import Iterable, Iterator
from typing import Any


class MetarlError(Exception):
    """An error that the user can fix; its message explains how."""


class InvalidValueError(MetarlError, ValueError):
    """A value that is out of its range, unknown, or does not fit another."""


class InvalidTypeError(MetarlError, TypeError):
    """A value of the wrong type."""


class DivergedError(InvalidValueError):
    """A training whose numbers are no longer finite."""


class MissingPackageError(MetarlError, ImportError):
    """A package that is not installed, or too old."""


class RenderingError(MetarlError, RuntimeError):
    """A package for drawing is missing or cannot draw."""


class StorageError(MetarlError, OSError):
    """A file that cannot be written."""


class RankError(MetarlError, RuntimeError):
    """Another of the processes that train together has failed."""


class Interrupted(Exception):  # noqa: N818
    """The user stopped a training; what was learned is in the checkpoint."""


@contextlib.contextmanager
def found_in(place: str) -> Iterator[None]:
    """Put the place of the error in front of the message of an error that the user can fix."""
    try:
        yield
    except InvalidTypeError as error:  # in a file's content, the value is wrong, not its type
        raise InvalidValueError(f"{place}: {error}") from None
    except MetarlError as error:
        raise type(error)(f"{place}: {error}") from None


def printable(text: str) -> str:
    """Return a text with control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """Return the end of an "unknown name" message: the closest name, or all names."""
    names = sorted(known)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
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


def check_types(kind: Any, words: str, /, **values: object) -> None:
    """Raise for the first keyword argument of a wrong type, naming it.

    Args:
        kind: The type, or several.
        words: How the message calls it, for example ``"a number"``.
        values: The values by name.

    Raises:
        TypeError: With the name, the value received and the expected type.
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            raise InvalidTypeError(f"{name} must be {words}, got {value!r:.100}")


def check_at_least(minimum: float, /, **values: float) -> None:
    """Raise for the first keyword argument below ``minimum``, naming it.

    Args:
        minimum: The least value. If it is an integer, the values must be integers too.
        values: The values by name.

    Raises:
        TypeError: If a value is of another type.
        ValueError: With the name, the value got and the value expected.
    """
    kind, words = numbers.Real, "a number"
    if isinstance(minimum, int):
        kind, words = numbers.Integral, "an integer"
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, kind):
            raise InvalidTypeError(f"{name} must be {words} of at least {minimum:g}, got {value!r}")
        if not value >= minimum:
            raise InvalidValueError(f"{name} must be at least {minimum:g}, got {value}")


def check_at_most(maximum: float, /, **values: float) -> None:
    """Raise for the first keyword argument above ``maximum``, naming it.

    Raises:
        ValueError: With the name, the value got and the value expected.
    """
    for name, value in values.items():
        if not value <= maximum:
            raise InvalidValueError(f"{name} must be at most {maximum:,}, got {value:,}")
