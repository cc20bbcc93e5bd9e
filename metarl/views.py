"""Views of a family: the same family, asked for with options, which runs and reports keep as data.

A view is a dictionary of those options that are not the default: ``{}`` is the family as it is,
``{"oracle": True}`` has the task in the observation. The options are those of
:func:`metarl.envs.make`, and are applied in this order: ``train_split``, ``num_train_tasks`` with
``train_tasks_seed``, ``oracle``, ``changing``.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from metarl.entries import COUNT, STRING, Rule

View: TypeAlias = Mapping[str, Any]

_OPTIONS: dict[str, Rule] = {
    "train_split": STRING,
    "num_train_tasks": COUNT,
    "train_tasks_seed": COUNT,
    "oracle": (lambda v: v is True, "true"),
    "changing": (lambda v: v is True, "true"),
}


def _is_view(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in _OPTIONS and _OPTIONS[name][0](option) for name, option in value.items()
    )


VIEW: Rule = (
    _is_view,
    "an object of " + ", ".join(f"{name!r} ({words})" for name, (_, words) in _OPTIONS.items()),
)
"""What a view must be where it is read from a file."""


def view_of(
    oracle: bool = False,
    num_train_tasks: int | None = None,
    train_split: str | None = None,
    train_tasks_seed: int = 0,
    changing: bool = False,
) -> dict[str, Any]:
    """Return the options of :func:`metarl.envs.make` as a view."""
    options = {
        "train_split": train_split,
        "num_train_tasks": num_train_tasks,
        "train_tasks_seed": train_tasks_seed or None,
    }
    view: dict[str, Any] = {name: v for name, v in options.items() if v is not None}
    flags = {"oracle": oracle, "changing": changing}
    return view | {name: True for name, flag in flags.items() if flag}


def label(family: str, view: View) -> str:
    """Return how tables call a view, as ``half-cheetah-climb (trained on any, oracle)``."""
    words = ", ".join(_words(view, "trained on ", " training ", " "))
    return f"{family} ({words})" if words else family


def slug(family: str, view: View) -> str:
    """Return a view in a name of a file, as ``half-cheetah-climb-on-any-oracle``."""
    return "-".join([family.replace(":", "-").replace("/", "-"), *_words(view, "on-", "", "")])


def _words(view: View, before_split: str, between: str, before_draw: str) -> list[str]:
    """Return the options of a view in words, in the order in which they are applied."""
    words = []
    if "train_split" in view:
        words.append(f"{before_split}{view['train_split']}")
    if "num_train_tasks" in view:
        count = view["num_train_tasks"]
        words.append(f"{count}{between}task{'s' if count > 1 else ''}")
    if "train_tasks_seed" in view:
        words.append(f"draw{before_draw}{view['train_tasks_seed']}")
    return words + [flag for flag in ("oracle", "changing") if view.get(flag)]
