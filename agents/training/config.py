"""Hyperparameters, written once: a frozen dataclass of fields with types, ranges and docstrings.

The constructors of agents, their checks, ``metarl list`` and the documentation all read it.
"""

import ast
import inspect
import math
import numbers
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from metarl.errors import InvalidTypeError, InvalidValueError, check_names

SelfConfig = TypeVar("SelfConfig", bound="Config")


@dataclass(frozen=True)
class Range:
    """Which numbers are allowed: those within bounds.

    Attributes:
        low: The lower bound.
        high: The upper bound.
        includes_low: Whether the lower bound is allowed.
        most: The largest value that runs: beyond it memory ends, or a scalar overflows in PyTorch.
    """

    low: float
    high: float = math.inf
    includes_low: bool = True
    most: float = math.inf

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.includes_low else value > self.low
        return above and value <= min(self.high, self.most)

    def expected(self, value: float) -> str:
        """Describe the allowed range, for error messages."""
        if value > self.most:
            return f"at most {self.most:,}"
        if self.high < math.inf:
            return f"in {'[' if self.includes_low else '('}{self.low:g}, {self.high:g}]"
        return f"{'at least' if self.includes_low else 'above'} {self.low:g}"


Count = Annotated[int, Range(1, most=10**6)]
Width = Annotated[int, Range(1, most=2**14)]
"""Of a layer; its square is the layer's memory."""
# PyTorch refuses scalars beyond float32, as bounds of a clamp for example.
Positive = Annotated[float, Range(0, includes_low=False, most=3e38)]
NotNegative = Annotated[float, Range(0, most=3e38)]
Share = Annotated[float, Range(0, 1)]
Discount = Annotated[float, Range(0, 1, includes_low=False)]


class Config:
    """Base of the dataclasses of hyperparameters: values are checked when one is made.

    Annotations may be plain types, ``Literal``, unions of these with None, dictionaries, sequences,
    and ``Annotated`` with a :class:`Range`.

    Raises:
        TypeError: If a value is of another type than annotated.
        ValueError: If a value is out of its range.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in fields(self):  # type: ignore[arg-type]
            value = _check(field.name, hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)  # numpy's numbers as plain ones

    @classmethod
    def build(
        cls: type[SelfConfig], values: Mapping[str, Any], what: str = "hyperparameter"
    ) -> SelfConfig:
        """Make one of values by name.

        Args:
            values: The values that differ from the defaults.
            what: What the message calls an unknown name.

        Raises:
            TypeError: If a value is of another type than annotated.
            ValueError: If there is no field of that name, or a value is out of its range.
        """
        check_names(values, cls.names(), what)
        return cls(**values)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the fields."""
        return [field.name for field in fields(cls)]  # type: ignore[arg-type]

    @classmethod
    def nested(cls) -> dict[str, type["Config"]]:
        """Return the configurations that fields which are dictionaries hold, by their titles."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return all values by name, for ``json.dump``."""
        return {name: getattr(self, name) for name in self.names()}


@dataclass(frozen=True)
class Description:
    """The description of a hyperparameter.

    Attributes:
        name: Its name.
        type: Its type, as written in an annotation.
        default: Its default value.
        doc: What it means, in one paragraph.
    """

    name: str
    type: str
    default: Any
    doc: str


def describe(config_class: type[Config]) -> list[Description]:
    """Return the description of each field of a configuration."""
    docs: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if issubclass(base, Config) and base is not Config:
            docs |= _field_docs(base)
    hints = typing.get_type_hints(config_class)
    return [
        Description(
            field.name,
            _type_name(hints[field.name]),
            field.default,
            " ".join(docs[field.name].split()),
        )
        for field in fields(config_class)  # type: ignore[arg-type]
    ]


def _field_docs(config_class: type[Config]) -> dict[str, str]:
    """Return the docstrings of a class's own fields."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body
    assert isinstance(definition, ast.ClassDef)
    # Python drops a string that follows a field; the source still has it.
    return {
        str(getattr(field.target, "id", "")): inspect.cleandoc(str(ast.literal_eval(text.value)))
        for field, text in zip(definition.body, definition.body[1:])
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def document(agent_class: type, config_class: type[Config]) -> None:
    """Add hyperparameters to an agent's docstring and signature: what ``help`` shows."""
    own = inspect.signature(agent_class.__init__).parameters.values()  # type: ignore[misc]
    given = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD][1:]
    described = describe(config_class)
    agent_class.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        given
        + [
            inspect.Parameter(d.name, inspect.Parameter.KEYWORD_ONLY, default=d.default)
            for d in described
        ]
    )
    lines = [f"{d.name}: {d.doc} Default {d.default!r}." for d in described]
    wrapped = (
        textwrap.fill(line, 100, initial_indent=" " * 8, subsequent_indent=" " * 12)
        for line in lines
    )
    if agent_class.__doc__:  # None under python -OO
        before, _, after = agent_class.__doc__.partition("    Args:\n")
        arguments = "\n\n    Args:\n" + "\n".join(wrapped) + "\n"
        agent_class.__doc__ = before.rstrip() + arguments + after


# For each annotation: what is accepted, how it is stored (so that JSON takes it), its name.
_KINDS: dict[Any, tuple[type, Callable[[Any], Any], str]] = {
    bool: (bool, bool, "true or false"),
    int: (numbers.Integral, int, "an integer"),
    float: (numbers.Real, float, "a number"),
    str: (str, str, "a string"),
}


def _check(name: str, hint: Any, value: Any) -> Any:
    """Return a value as it is stored, or raise if it does not fit its annotation."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    expected = []
    for option in options:
        allowed = None
        if typing.get_origin(option) is Annotated:
            option, allowed = typing.get_args(option)
        if option in _KINDS:
            kind, plain, description = _KINDS[option]
            if isinstance(value, kind) and (option is bool or not isinstance(value, bool)):
                try:
                    stored = value if type(value) is option else plain(value)
                except OverflowError:
                    stored = math.inf
                if isinstance(stored, float) and not math.isfinite(stored):
                    raise InvalidValueError(f"{name} must be finite, got {value!s:.50}")
                if allowed is not None and stored not in allowed:
                    raise InvalidValueError(
                        f"{name} must be {allowed.expected(stored)}, got {value!s:.50}"
                    )
                return stored
            expected.append(description)
        elif typing.get_origin(option) is Literal:
            if isinstance(value, str):
                check_names([value], typing.get_args(option), name)
                return value
            expected.append("a string")
        elif typing.get_origin(option) is dict:
            if isinstance(value, Mapping):
                return dict(value)
            expected.append("a dictionary")
        elif _is_sequence(option):
            if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)):
                (element, *_) = typing.get_args(option)
                return [_check(f"{name}[{i}]", element, item) for i, item in enumerate(value)]
            expected.append("a list")
    if type(None) in options:
        expected.append("None")
    raise InvalidTypeError(f"{name} must be {' or '.join(expected)}, got {value!r}")


def _type_name(hint: Any) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    if _is_union(hint):
        return " | ".join(_type_name(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    return "list" if _is_sequence(hint) else typing.get_origin(hint).__name__


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_sequence(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Sequence)
