"""Games that are set up by hand."""

import numpy as np

from metarl import Task
from metarl.envs.games.family import GameVectorEnv

STEP = {
    "objects": ("treasure", "nothing", "nothing"),
    "controls": (0, 1, 2, 3),
    "motion": "step",
    "border": "wall",
    "restless": False,
}


def start(game, places, **options):
    """Begin one game of 5 by 5 with the player and the objects where they are wanted."""
    env = GameVectorEnv(1, size=5, num_each=1, **options)
    env.set_tasks([Task("games-5x5", {**STEP, **game})])
    env.reset(seed=0)
    env._places[0], env._heading[0] = places, 0
    return env


def walk(env, *actions):
    """Take some actions; return the rewards."""
    return [float(env.step(np.array([action]))[1][0]) for action in actions]
