"""All families by name: ``make`` builds one, ``names`` lists them; each has a gymnasium id."""

from collections.abc import Callable
from typing import Any

import gymnasium

from metarl.distribution import TaskDistribution
from metarl.envs.alchemy.family import FAMILIES as ALCHEMY
from metarl.envs.bandits import FAMILIES as BANDITS
from metarl.envs.bandits import parse_bandit
from metarl.envs.classic_control import FAMILIES as CLASSIC_CONTROL
from metarl.envs.custom.loading import parse_import
from metarl.envs.dark_room import FAMILIES as DARK_ROOMS
from metarl.envs.games.family import FAMILIES as GAMES
from metarl.envs.gridnavi import FAMILIES as GRIDS
from metarl.envs.images.glyphs import FAMILIES as GLYPHS
from metarl.envs.images.glyphs import parse_glyphs
from metarl.envs.images.image_folders import parse_image_folder
from metarl.envs.motors import FAMILIES as MOTORS
from metarl.envs.mujoco.dynamics import FAMILIES as DYNAMICS
from metarl.envs.mujoco.locomotion import FAMILIES as LOCOMOTION
from metarl.envs.mujoco.terrain import FAMILIES as TERRAIN
from metarl.envs.navigation import FAMILIES as NAVIGATION
from metarl.envs.suites import parse_suite
from metarl.envs.tabular import FAMILIES as TABULAR_MDPS
from metarl.envs.tabular import parse_tabular_mdp
from metarl.errors import InvalidValueError, check_types, did_you_mean
from metarl.vector.env import TaskEnv, TaskVectorEnv

FAMILIES: dict[str, Callable[..., TaskDistribution]] = {
    **BANDITS,
    **TABULAR_MDPS,
    **NAVIGATION,
    **GRIDS,
    **DARK_ROOMS,
    **CLASSIC_CONTROL,
    **MOTORS,
    **GLYPHS,
    **LOCOMOTION,
    **DYNAMICS,
    **TERRAIN,
    **GAMES,
    **ALCHEMY,
}
"""What builds each family, by its name."""

PATTERNS: tuple[Callable[[str], TaskDistribution | None], ...] = (
    parse_bandit,
    parse_tabular_mdp,
    parse_glyphs,
    parse_image_folder,
    parse_suite,
    parse_import,
)
"""Names that are not listed: each takes a name, and returns None where it is of another kind."""

_IDS = {
    "bandit-10x5": "Bandit",
    "tabular-mdp-10": "TabularMDP",
    "navigation-2d": "Navigation2D",
    "gridnavi": "GridNavi",
    "glyphs-5way": "Glyphs",
}
"""Ids that are not spelled as the name is."""


def names() -> list[str]:
    """Return the names of all families."""
    return list(FAMILIES)


def make(
    name: str,
    *,
    oracle: bool = False,
    num_train_tasks: int | None = None,
    train_split: str | None = None,
    train_tasks_seed: int = 0,
    changing: bool = False,
) -> TaskDistribution:
    """Build the family of that name, or a view of it.

    Args:
        name: One of :func:`names`, a pattern such as ``bandit-100x5`` or ``glyphs-7way``, pictures
            of your own as ``image-folder:PATH``, or a family of your own as
            ``my_package.my_module:tasks``.
        oracle: Whether the task is in the observation, which is what an oracle trains on.
        num_train_tasks: How many tasks there are to train on, of those that there would be; None
            takes all.
        train_split: The split to train on; None takes ``train``.
        train_tasks_seed: The seed by which ``num_train_tasks`` are drawn.
        changing: Whether each task becomes another one within the trial.

    Raises:
        TypeError: If what the name leads to is not a family, or an option is of the wrong type.
        ValueError: If there is no such family, and the message names the closest one; or if it has
            no such split, or fewer tasks.
    """
    check_types(str, "the name of a family", name=name)
    tasks = _find(name)
    if train_split is not None:
        tasks = tasks.trained_on(train_split)
    if num_train_tasks is not None:
        tasks = tasks.limited(num_train_tasks, train_tasks_seed)
    elif train_tasks_seed:
        raise InvalidValueError(
            f"train_tasks_seed={train_tasks_seed} draws training tasks, but num_train_tasks is not "
            "given; say how many to draw"
        )
    if oracle:
        tasks = tasks.oracle()
    return tasks.changing() if changing else tasks


def _find(name: str) -> TaskDistribution:
    if name in FAMILIES:
        return FAMILIES[name]()
    for parse in PATTERNS:
        tasks = parse(name)
        if tasks is not None:
            return tasks
    raise InvalidValueError(f"unknown family {name!r}; {did_you_mean(name, FAMILIES)}")


def gymnasium_id(name: str) -> str:
    """Return the gymnasium id of a listed family: half-cheetah-dir's is metarl/HalfCheetahDir-v0.

    Args:
        name: One of :func:`names`.
    """
    camel = "".join(part.capitalize() for part in name.split("-"))
    return f"metarl/{_IDS.get(name, camel)}-v0"


def make_vector_env(family: str, num_envs: int, **options: Any) -> TaskVectorEnv:
    """Build a batch of a family: what ``gymnasium.make_vec`` calls."""
    return make(family).make_vec(num_envs, **options)


def make_env(family: str, **options: Any) -> TaskEnv:
    """Build a single environment of a family: what ``gymnasium.make`` calls."""
    return TaskEnv(make_vector_env(family, 1, **options))


for _name in FAMILIES:
    gymnasium.register(
        gymnasium_id(_name),
        entry_point=f"{__name__}:make_env",
        vector_entry_point=f"{__name__}:make_vector_env",
        kwargs={"family": _name},
    )
