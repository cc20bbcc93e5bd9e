"""Hyperparameters are checked against a constructor's annotations before any compute."""

import inspect
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from metarl.errors import check_names

# For each annotation: what is accepted, how it is stored (so that JSON takes it), its name.
_KINDS: dict[Any, tuple[type, Callable[[Any], Any], str]] = {
    bool: (bool, bool, "true or false"),
    int: (numbers.Integral, int, "an integer"),
    float: (numbers.Real, float, "a number"),
    str: (str, str, "a string"),
}


def check_hyperparameters(
    constructor: Callable[..., Any], values: Mapping[str, Any], what: str = "hyperparameter"
) -> dict[str, Any]:
    """Check values against the annotations of a constructor's optional arguments.

    Args:
        constructor: The function whose annotations count. Annotations other than plain types,
            unions of these, dictionaries and sequences are not checked.
        values: The values by name.
        what: What the message calls an unknown name.

    Returns:
        The values, with numpy's numbers as plain ones.

    Raises:
        TypeError: If a value is of another type than annotated.
        ValueError: If the constructor has no optional argument of that name.
    """
    hints = typing.get_type_hints(constructor)
    arguments = inspect.signature(constructor).parameters.values()
    check_names(values, [a.name for a in arguments if a.default is not a.empty], what)
    return {name: _check(name, hints[name], value) for name, value in values.items()}


def _check(name: str, hint: Any, value: Any) -> Any:
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    expected = []
    for option in options:
        if option in _KINDS:
            kind, plain, description = _KINDS[option]
            if isinstance(value, kind) and (option is bool or not isinstance(value, bool)):
                return value if type(value) is option else plain(value)
            expected.append(description)
        elif typing.get_origin(option) is dict:
            if isinstance(value, Mapping):
                return dict(value)
            expected.append("a dictionary")
        elif _is_sequence(option):
            if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)):
                (element, *_) = typing.get_args(option)
                return [_check(f"{name}[{i}]", element, item) for i, item in enumerate(value)]
            expected.append("a list")
        elif option is not type(None):
            return value
    if type(None) in options:
        expected.append("None")
    raise TypeError(f"{name} must be {' or '.join(expected)}, got {value!r}")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_sequence(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Sequence)
