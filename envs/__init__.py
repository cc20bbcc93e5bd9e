"""Families of tasks over environments: ``make(name)`` builds one, ``names()`` lists them."""

from metarl.envs.bandits import bandit
from metarl.envs.custom.action_masks import ActionMaskFromInfo
from metarl.envs.custom.batch import from_vector_env
from metarl.envs.custom.gym import from_gymnasium
from metarl.envs.gridnavi import gridnavi
from metarl.envs.images.glyphs import glyphs_cats, glyphs_nway
from metarl.envs.images.image_folders import image_folder
from metarl.envs.navigation import navigation_2d, navigation_sparse
from metarl.envs.registry import make, names
from metarl.envs.tabular import tabular_mdp

__all__ = [
    "ActionMaskFromInfo",
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
