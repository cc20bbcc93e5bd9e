"""gymnasium's own checker, on every environment registered with it."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metarl import envs

IDS = [name for name in gymnasium.registry if name.startswith("metarl/")]


def build(make, *args, **options):
    try:
        return make(*args, **options)
    except ImportError as error:  # the locomotion families need a newer MuJoCo than we depend on
        pytest.skip(str(error))


def test_something_is_registered():
    assert metarl.envs.names()
    assert "metarl/Bandit-v0" in IDS


# An unbounded observation is what a position or a velocity is.
@pytest.mark.filterwarnings("ignore:.*A Box observation space m(in|ax)imum value is -?infinity")
@pytest.mark.parametrize("name", IDS)
def test_the_checker_of_gymnasium_passes(name):
    env = build(gymnasium.make, name)
    check_env(env.unwrapped, skip_render_check=True)  # pictures need OpenGL


@pytest.mark.parametrize("name", IDS)
def test_batches_are_made(name):
    env = build(gymnasium.make_vec, name, num_envs=3)
    observations, _ = env.reset(seed=0)
    actions = np.zeros(env.action_space.shape, env.action_space.dtype)
    following, rewards, *_ = env.step(actions)
    assert observations.shape == following.shape == env.observation_space.shape
    assert rewards.shape == (3,)
    env.close()


def test_the_told_variant_of_any_family_has_a_name():
    hidden, told = envs.make("bandit-10x3"), envs.make("bandit-10x3-told")
    assert told.name == "bandit-10x3-told"
    sizes = [gymnasium.spaces.flatdim(f.observation_space) for f in (hidden, told)]
    assert sizes[1] == sizes[0] + 3
    with pytest.raises(ValueError, match="unknown family 'bandit-10'"):
        envs.make("bandit-10-told")
