"""JSON from untrusted sources: parsed strictly, and checked entry by entry.

Error messages name the entry and the expected value.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from metarl.errors import InvalidValueError

Rule: TypeAlias = tuple[Callable[[Any], bool], str]
"""The requirement of an entry, as code and in words."""

_MISSING = object()


def integer(minimum: int, maximum: float = math.inf) -> Rule:
    """Return the rule of integers from a minimum on, or up to a maximum."""
    words = f"of at least {minimum}" if maximum == math.inf else f"from {minimum} to {maximum:g}"
    return lambda v: type(v) is int and minimum <= v <= maximum, f"an integer {words}"


def optional(rule: Rule) -> Rule:
    """Return the rule of an entry that may be null or missing."""
    fits, words = rule
    return lambda v: v is None or v is _MISSING or fits(v), f"{words} or null"


COUNT = integer(1)
STRING: Rule = (  # printed text must not control the terminal
    lambda v: isinstance(v, str) and v.isprintable(),
    "a printable string",
)
NUMBER: Rule = (
    lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v),
    "a finite number",
)
OBJECT: Rule = (lambda v: isinstance(v, dict), "an object")


def parse_json(text: bytes | str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: If it is no JSON, not UTF-8, nested too deeply, or has an integer of more than
            64 bits.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode(), parse_int=_integer)
    except RecursionError:
        raise InvalidValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise InvalidValueError(f"an integer must have at most 64 bits, got {digits:.50}")
    return int(digits)


def read_entries(path: Path, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Read a JSON object from a file, and check its entries.

    Args:
        path: The file.
        rules: As of :func:`check_entries`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged; the message names the file and the entry.
    """
    data = path.read_bytes()
    try:
        entries: dict[str, Any] = parse_json(data)
        check_entries(entries, rules)
    except ValueError as error:
        raise InvalidValueError(f"{str(path)!r} is damaged: {error}") from None
    return entries


def check_entries(data: Any, rules: Mapping[str, Rule]) -> None:
    """Raise for the first entry that is missing or does not fit.

    Args:
        data: The parsed JSON.
        rules: The rule of each entry. Dots lead into objects, as in ``evaluation.seed``; the rule
            of an object comes before the rules of its entries.

    Raises:
        ValueError: With the entry, the expected value and the value received.
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
