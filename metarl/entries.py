"""Checks of what was read from a JSON file: one sentence names the entry and what was expected."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from metarl.errors import InvalidValueError

Rule: TypeAlias = tuple[Callable[[Any], bool], str]
"""What an entry must be, in code and in words."""


def integer(minimum: int) -> Rule:
    """Return the rule of integers from a minimum on."""
    return lambda v: type(v) is int and v >= minimum, f"an integer of at least {minimum}"


COUNT = integer(1)
STRING: Rule = (lambda v: isinstance(v, str), "a string")
OBJECT: Rule = (lambda v: isinstance(v, dict), "an object")
_MISSING = object()


def check_entries(data: Any, rules: Mapping[str, Rule]) -> None:
    """Raise for the first entry that is missing or does not fit.

    Args:
        data: What was read.
        rules: The rule of each entry. Dots lead into objects, as in ``evaluation.seed``; the rule
            of an object comes before the rules of what is in it.

    Raises:
        ValueError: With the entry, what was expected and the value got.
    """
    if not isinstance(data, dict):
        raise InvalidValueError(f"expected a JSON object, got {data!r:.50}")
    for entry, (fits, expected) in rules.items():
        value: Any = data
        for name in entry.split("."):
            value = value.get(name, _MISSING)
        if not fits(value):
            got = "it is missing" if value is _MISSING else f"got {value!r:.50}"
            raise InvalidValueError(f"{entry!r} must be {expected}, {got}")
