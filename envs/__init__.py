"""Families of tasks over environments: ``make(name)`` builds one, ``names()`` lists them."""

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium

from metarl.distribution import TaskDistribution
from metarl.envs.bandits import bandit, parse_bandit
from metarl.envs.custom.batch import from_vector_env
from metarl.envs.custom.gym import from_gymnasium
from metarl.envs.custom.loading import parse_import
from metarl.envs.games.family import GAMES
from metarl.envs.gridnavi import gridnavi, gridnavi_unseen
from metarl.envs.images.glyphs import glyphs_cats, glyphs_nway, parse_glyphs
from metarl.envs.images.image_folders import PREFIX, image_folder, parse_image_folder
from metarl.envs.mujoco.dynamics import DYNAMICS
from metarl.envs.mujoco.locomotion import LOCOMOTION
from metarl.envs.mujoco.terrain import TERRAIN
from metarl.envs.navigation import navigation_2d, navigation_sparse
from metarl.envs.suites import parse_suite
from metarl.envs.tabular import parse_tabular_mdp, tabular_mdp
from metarl.errors import InvalidValueError, check_types, did_you_mean
from metarl.vector.env import TaskEnv, TaskVectorEnv

__all__ = [
    "bandit",
    "from_gymnasium",
    "from_vector_env",
    "glyphs_cats",
    "glyphs_nway",
    "gridnavi",
    "image_folder",
    "make",
    "names",
    "navigation_2d",
    "navigation_sparse",
    "tabular_mdp",
]

_ROBOTS = LOCOMOTION | DYNAMICS | TERRAIN
_FAMILIES: dict[str, Callable[..., TaskDistribution]] = {
    f"bandit-{pulls}x{arms}": partial(bandit, pulls, arms)
    for pulls in (10, 100, 500)
    for arms in (5, 10, 50)
}
_FAMILIES |= {f"tabular-mdp-{n}": partial(tabular_mdp, n) for n in (10, 25, 50, 75, 100)}
_FAMILIES |= {
    "navigation-2d": navigation_2d,
    "navigation-2d-squared": partial(navigation_2d, squared=True),
    "navigation-sparse": navigation_sparse,
}
_FAMILIES |= {"gridnavi": gridnavi, "gridnavi-unseen": gridnavi_unseen}
_FAMILIES |= {f"glyphs-{ways}way": partial(glyphs_nway, ways) for ways in (5, 20)}
_FAMILIES |= {"glyphs-cats": glyphs_cats}
_FAMILIES |= _ROBOTS | GAMES

# Names that follow a pattern, for members of a family that are not listed.
_PATTERNS: list[Callable[[str], TaskDistribution | None]] = [
    parse_bandit,
    parse_tabular_mdp,
    parse_glyphs,
    parse_image_folder,
    parse_suite,
    parse_import,
]


def names() -> list[str]:
    """Return the names of all families."""
    return list(_FAMILIES)


def split_suffix(name: str) -> tuple[str, str, str]:
    """Divide the name of a family at its last suffix.

    Args:
        name: As :func:`make` takes it.

    Returns:
        The name without the suffix; ``told``, ``tasks`` or ``on``; and its number or split. The
        latter two are empty where the name has no suffix, as that of a folder that is there: a
        path may end like a suffix.
    """
    folder = name.removeprefix(PREFIX)
    match = re.fullmatch(r"(.+)-(?:(told)|([1-9]\d{0,8})tasks?|on-(\w+))", name, re.DOTALL)
    if match is None or (folder != name and os.path.isdir(folder)):
        return name, "", ""
    base, told, count, split = match.groups("")
    return base, "told" if told else "tasks" if count else "on", count or split


def make(name: str) -> TaskDistribution:
    """Build the family of that name.

    Args:
        name: One of :func:`names`, a pattern such as ``bandit-100x5`` or ``glyphs-7way``, pictures
            of your own as ``image-folder:PATH``, or a family of your own as
            ``my_package.my_module:tasks``. The suffix ``-told`` to any of these adds the task
            to the observation, which is what an oracle trains on; ``-4tasks`` leaves 4 tasks to
            train on, or any other number; ``-on-steep`` trains on the split ``steep``, or any
            other. Suffixes may follow each other. A folder whose own name ends like a suffix is
            taken as it is.

    Raises:
        TypeError: If what the name leads to is not a family.
        ValueError: If there is no such family; the message names the closest one.
    """
    check_types(str, "the name of a family", name=name)
    if name in _FAMILIES:
        return _FAMILIES[name]()
    base, suffix, value = split_suffix(name)
    if suffix == "told":
        return make(base).told()
    if suffix == "tasks":
        return make(base).limited(int(value))
    if suffix == "on":
        return make(base).trained_on(value)
    for parse in _PATTERNS:
        tasks = parse(name)
        if tasks is not None:
            return tasks
    raise InvalidValueError(f"unknown family {name!r}; {did_you_mean(name, _FAMILIES)}")


gymnasium.register(
    "metarl/Bandit-v0",
    entry_point="metarl.envs.bandits:bandit_env",
    vector_entry_point="metarl.envs.bandits:BanditVectorEnv",
)
gymnasium.register(
    "metarl/Navigation2D-v0",
    entry_point="metarl.envs.navigation:navigation_env",
    vector_entry_point="metarl.envs.navigation:NavigationVectorEnv",
)
gymnasium.register(
    "metarl/NavigationSparse-v0",
    entry_point="metarl.envs.navigation:sparse_navigation_env",
    vector_entry_point="metarl.envs.navigation:SparseNavigationVectorEnv",
)
gymnasium.register(
    "metarl/GridNavi-v0",
    entry_point="metarl.envs.gridnavi:gridnavi_env",
    vector_entry_point="metarl.envs.gridnavi:GridNaviVectorEnv",
)
gymnasium.register(
    "metarl/TabularMDP-v0",
    entry_point="metarl.envs.tabular:tabular_env",
    vector_entry_point="metarl.envs.tabular:TabularVectorEnv",
)
gymnasium.register(
    "metarl/Glyphs-v0",
    entry_point="metarl.envs.images.glyphs:glyphs_env",
    vector_entry_point="metarl.envs.images.glyphs:glyphs_vec",
)
gymnasium.register(
    "metarl/GlyphsCats-v0",
    entry_point="metarl.envs:_make_env",
    vector_entry_point="metarl.envs:_make_vec",
    kwargs={"family": "glyphs-cats"},
)


def _make_vec(family: str, num_envs: int, **options: Any) -> TaskVectorEnv:
    return make(family).make_vec(num_envs, **options)


def _make_env(family: str, **options: Any) -> TaskEnv:
    return TaskEnv(_make_vec(family, 1, **options))


for _name in _ROBOTS | GAMES:  # half-cheetah-dir is metarl/HalfCheetahDir-v0
    gymnasium.register(
        f"metarl/{''.join(part.capitalize() for part in _name.split('-'))}-v0",
        entry_point="metarl.envs:_make_env",
        vector_entry_point="metarl.envs:_make_vec",
        kwargs={"family": _name},
    )
