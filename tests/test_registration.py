"""Every family by its name: with gymnasium's own checker, in batches, and sent by pickle."""

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metarl import envs
from metarl.experiments.benchmarks.families import registered

IDS = [name for name in gymnasium.registry if name.startswith("metarl/")]


def build(make, *args, **options):
    try:
        return make(*args, **options)
    except ImportError as error:  # the locomotion families need a newer MuJoCo than we depend on
        pytest.skip(str(error))


def test_every_family_is_registered():
    # The others have one id for all their sizes, rewards and splits; a robot one for each family.
    others = ("bandit-", "navigation-", "gridnavi", "tabular-mdp-", "glyphs-")
    robots = [n for n in envs.names() if not n.startswith(others)]
    ids = {f"metarl/{''.join(part.capitalize() for part in name.split('-'))}-v0" for name in robots}
    assert set(IDS) == ids | {
        "metarl/Bandit-v0",
        "metarl/Navigation2D-v0",
        "metarl/NavigationSparse-v0",
        "metarl/GridNavi-v0",
        "metarl/TabularMDP-v0",
        "metarl/Glyphs-v0",
        "metarl/GlyphsCats-v0",
    }


def test_the_benchmark_finds_the_id_of_every_family():
    found = {name: registered(name) for name in envs.names()}
    assert set(found.values()) == set(IDS)
    assert found["bandit-500x50"] == "metarl/Bandit-v0"
    assert found["navigation-2d-squared"] == "metarl/Navigation2D-v0"
    assert found["half-cheetah-dir-rllab"] == "metarl/HalfCheetahDirRllab-v0"


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
    assert env.observation_space.contains(observations)
    assert env.observation_space.contains(following)
    assert rewards.shape == (3,)
    env.close()


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("name", envs.names())
def test_families_can_be_sent_to_a_worker(name, told):
    tasks = envs.make(f"{name}-told" if told else name)
    copy = pickle.loads(pickle.dumps(tasks))
    assert copy.name == tasks.name
    for split in tasks.splits:
        assert copy.sample(split, 3, seed=0) == tasks.sample(split, 3, seed=0)
    build(copy.make_vec, 2).close()


def test_what_bandits_are_compared_with():
    assert "gittins-index" in envs.make("bandit-500x5").references
    # Its table grows with the cube of the pulls.
    assert envs.make("bandit-601x5").references == tuple(
        name for name in envs.make("bandit-10x5").references if name != "gittins-index"
    )
    assert envs.make("bandit-10x5-told").references == ()
    assert envs.make("navigation-2d").references == ()


def test_the_told_variant_of_any_family_has_a_name():
    told = envs.make("navigation-2d-told")
    assert told.name == "navigation-2d-told"
    env = told.make_vec(3)
    goals = told.sample("train", 3, seed=0)
    env.set_tasks(goals)
    observations, _ = env.reset(seed=0)
    assert observations.shape == (3, 4)  # where it is, and the goal in units of its range
    assert len(np.unique(observations[:, 2:])) == 6
    with pytest.raises(ValueError, match="unknown family 'bandit-10'"):
        envs.make("bandit-10-told")
