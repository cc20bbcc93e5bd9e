"""Families over the environments of other suites. Each needs the extra with its package."""

import fnmatch
import importlib
from collections.abc import Callable
from dataclasses import replace

from metarl.distribution import TaskDistribution
from metarl.errors import MissingPackageError

SUITES = {
    "box2d": ("Box2D", ("lunar-lander", "bipedal-walker")),
    "minigrid": ("minigrid", ("minigrid-doors", "minigrid-map:*")),
    "metaworld": ("metaworld", ("ml1-*", "ml10")),
}
"""The extras, each with the package that it installs and the names of the families that need it."""


def parse_suite(name: str) -> TaskDistribution | None:
    """Return the family of that name, as listed in ``SUITES``; None if it is none of these.

    Raises:
        ImportError: If its package is not installed.
        ValueError: If the suite has no such environment.
    """
    for extra, (package, patterns) in SUITES.items():
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingPackageError(
                f"the family {name!r} needs {package}: pip install 'metarl-suite[{extra}]'"
            ) from error
        build: Callable[[str], TaskDistribution]
        build = importlib.import_module(f"metarl.envs.suites.{extra}").build
        return replace(build(name), built_in=True)
    return None
