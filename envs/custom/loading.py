"""Your own families, named by their location: ``my_package.my_module:tasks``."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from metarl.distribution import TaskDistribution
from metarl.envs.images.image_folders import PREFIX
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
    if locate(name) is None:
        return None
    tasks = load_attribute(name)
    if callable(tasks):
        tasks = tasks()
    if not isinstance(tasks, TaskDistribution):
        raise InvalidTypeError(
            f"{name} must be a TaskDistribution or a function without arguments that returns "
            f"one, got {tasks!r}; see metarl.envs.from_gymnasium"
        )
    return tasks


def load_attribute(name: str) -> Any:
    """Import ``module:attribute``; the current directory is searched first.

    Raises:
        ValueError: If the name is none such, or there is no such module or attribute.
    """
    location = locate(name)
    if location is None:
        raise InvalidValueError(f"expected a name such as my_module:attribute, got {name!r}")
    module_name, _, attribute = name.partition(":")
    # Console scripts, unlike `python -m`, do not search the current directory. Nothing else is to
    # be imported from there, so it is added only for a module that is there.
    here = os.getcwd()
    if here not in sys.path and Path(location).is_relative_to(here):
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, but something that it imports does not
        raise _no_module(error.name) from error
    if not hasattr(module, attribute):
        names = [known for known in vars(module) if not known.startswith("_")]
        raise InvalidValueError(
            f"{module.__name__} has no {attribute!r}; {did_you_mean(attribute, names)}"
        )
    return getattr(module, attribute)


def locate(name: str) -> str | None:
    """Return where ``module:attribute`` would be imported from; None for any other name.

    Nothing is imported.

    Args:
        name: For example ``my_package.my_module:tasks``.

    Returns:
        The file of the outermost package or module, here of ``my_package``.

    Raises:
        ValueError: If the name is malformed or there is no such package.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or name.startswith(PREFIX):
        return None
    if not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise InvalidValueError(
            f"your own family is named module:attribute, got {name!r}; "
            f"for example '{dotted or 'my_module'}:{attribute or 'tasks'}'"
        )
    outermost = module_name.partition(".")[0]
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(outermost)
    except ValueError:  # __main__
        spec = None
    finally:
        sys.path.pop(0)
    if spec is None:
        raise _no_module(outermost)
    # A folder without __init__.py has no file.
    return spec.origin or os.pathsep.join(spec.submodule_search_locations or ())


def _no_module(name: str) -> InvalidValueError:
    return InvalidValueError(
        f"there is no module {name!r} in {os.getcwd()} or among the installed packages"
    )
