"""The help of the command line, from the docstrings of its commands."""

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import tyro

_Command = TypeVar("_Command", bound=Callable[..., Any])


def with_help(command: _Command) -> _Command:
    """Give the options of a command the help that its docstring has for them.

    Where the docstring names the default, as in "(default: the preset's)", that is shown instead of
    the value; a default of None, and that of a flag, is not shown otherwise.

    Args:
        command: The command, or a dataclass of options; its annotations are changed.
    """
    signature = inspect.signature(command)
    for name, text in _arguments(command).items():
        parameter = signature.parameters[name]
        words, default, _ = text.partition(" (default: ")
        hint = None
        if default:
            text, hint = words, text[len(words) + 1 :]
        elif parameter.default in (parameter.empty, None) or isinstance(parameter.default, bool):
            hint = ""  # of an argument that must be given, tyro says so
        annotation = command.__annotations__[name]
        plain, *given = (
            (annotation.__origin__, *annotation.__metadata__)
            if hasattr(annotation, "__metadata__")  # Annotated
            else (annotation,)
        )
        metavar = None
        if isinstance(plain, types.UnionType):  # int | None is an INT
            metavar = typing.get_args(plain)[0].__name__.upper()
        shown = tyro.conf.arg(help=text, help_behavior_hint=hint, metavar=metavar)
        # Of several, the last one that sets something counts.
        command.__annotations__[name] = Annotated[(plain, shown, *given)]
    return command


def _arguments(command: Callable[..., Any]) -> dict[str, str]:
    """Return the text of each argument in a docstring, on one line."""
    section = "Attributes" if inspect.isclass(command) else "Args"
    _, _, args = (inspect.getdoc(command) or "").partition(f"\n{section}:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", args, re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def overview(commands: Mapping[str, Callable[..., Any]]) -> str:
    """Return what ``metarl`` alone prints: a line for each command, and where to begin."""
    width = max(map(len, commands)) + 4
    lines = ["usage: metarl COMMAND [OPTIONS]", ""]
    lines += ["Meta-reinforcement learning: agents that learn to learn.", "", "commands:"]
    for name, command in commands.items():
        summary, _, _ = (inspect.getdoc(command) or "").partition("\n\n")
        text = f"  {name:{width - 2}}{' '.join(summary.split())}"
        lines += textwrap.wrap(text, 80, subsequent_indent=" " * width)
    lines += [
        "",
        "To begin: metarl list, then for example metarl train rl2 gridnavi",
        "Options of a command: metarl COMMAND --help. Versions: metarl --version",
    ]
    return "\n".join(lines)
