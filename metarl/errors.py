"""Small helpers for error messages that say the way out."""

import difflib
from collections.abc import Iterable


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
            raise ValueError(f"unknown {what} {name!r}; {did_you_mean(name, known)}")


def check_at_least(minimum: float, **values: float) -> None:
    """Raise for the first keyword argument below ``minimum``, naming it.

    Raises:
        ValueError: With the name, the value got and the value expected.
    """
    for name, value in values.items():
        if not value >= minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")
