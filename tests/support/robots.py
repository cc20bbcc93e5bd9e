"""One robot with or without a task, and what it does at random."""

import numpy as np

from metarl import Task, envs


def one(family, **options):
    """A batch of one, reset, with or without a task."""
    task = options.pop("task", None)
    env = envs.make(family).make_vec(options.pop("num_envs", 1), **options)
    if task is not None:
        env.set_tasks([Task(family, task)] * env.num_envs)
    env.reset(seed=0)
    return env


def random_actions(env, num_steps, seed=0):
    rng = np.random.default_rng(seed)
    space = env.action_space
    return rng.uniform(space.low, space.high, (num_steps, *space.shape)).astype(np.float32)
