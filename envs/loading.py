"""Your own families, named by their location: ``my_package.my_module:tasks``."""

import importlib
import os
import sys

from metarl.distribution import TaskDistribution
from metarl.errors import InvalidTypeError, InvalidValueError, did_you_mean


def parse_import(name: str) -> TaskDistribution | None:
    """Load ``module:attribute``; None for a name without a colon.

    The current directory is searched first, as with ``python -m``. The attribute is a family, or a
    function without arguments that returns one.

    Args:
        name: For example ``my_package.my_module:tasks``.

    Raises:
        TypeError: If the attribute is neither.
        ValueError: If there is no such module or attribute.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon:
        return None
    if not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise InvalidValueError(
            f"your own family is named module:attribute, got {name!r}; "
            f"for example '{dotted or 'my_module'}:{attribute or 'tasks'}'"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # console scripts, unlike `python -m`, do not have it
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, but something that it imports does not
        raise InvalidValueError(
            f"there is no module {error.name!r} in {os.getcwd()} or among the installed packages"
        ) from error
    if not hasattr(module, attribute):
        names = [known for known in vars(module) if not known.startswith("_")]
        raise InvalidValueError(
            f"{module.__name__} has no {attribute!r}; {did_you_mean(attribute, names)}"
        )
    tasks = getattr(module, attribute)
    if callable(tasks):
        tasks = tasks()
    if not isinstance(tasks, TaskDistribution):
        raise InvalidTypeError(
            f"{name} must be a TaskDistribution or a function without arguments that returns "
            f"one, got {tasks!r}; see metarl.envs.from_gymnasium"
        )
    return tasks
