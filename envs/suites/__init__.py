"""Families over the environments of other suites. Each needs the extra that brings its package."""

import importlib
from collections.abc import Callable

from metarl.distribution import TaskDistribution
from metarl.errors import MissingPackageError

SUITES = {
    "box2d": ("Box2D", ("lunar-lander", "bipedal-walker")),
    "minigrid": ("minigrid", ("minigrid-doors", "minigrid-map:ID")),
    "metaworld": ("metaworld", ("ml1-TASK", "ml10")),
}
"""The extras, each with the package that it installs and the families that need it."""


def parse_suite(name: str) -> TaskDistribution | None:
    """Return the family of that name, as listed in ``SUITES``; None if it is none of these.

    Raises:
        ImportError: If its package is not installed.
        ValueError: If the suite has no such environment.
    """
    for extra, (package, patterns) in SUITES.items():
        for pattern in patterns:
            fixed = pattern.rstrip("ADIKST")  # what stands in capitals is the user's to choose
            if name == pattern if fixed == pattern else name.startswith(fixed):
                try:
                    importlib.import_module(package)
                except ImportError as error:
                    raise MissingPackageError(
                        f"the family {name!r} needs {package}: pip install 'metarl-suite[{extra}]'"
                    ) from error
                suite = importlib.import_module(f"metarl.envs.suites.{extra}")
                build: Callable[[str], TaskDistribution] = suite.build
                return build(name)
    return None
