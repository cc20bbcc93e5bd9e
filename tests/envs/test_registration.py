"""Every family by its name: with gymnasium's own checker, in batches, and sent by pickle."""

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from toys import RiskVectorEnv

from metarl import envs
from metarl.envs.registry import gymnasium_id
from metarl.views import slug

IDS = [name for name in gymnasium.registry if name.startswith("metarl/")]


def build(make, *args, **options):
    try:
        return make(*args, **options)
    except ImportError as error:  # the locomotion families need a newer MuJoCo than we depend on
        pytest.skip(str(error))


def test_every_family_has_an_id():
    ids = [gymnasium_id(name) for name in envs.names()]
    assert len(set(ids)) == len(ids)
    assert set(ids) == set(IDS)


SPELLED = {
    "Bandit": "bandit-10x5",
    "TabularMDP": "tabular-mdp-10",
    "Navigation2D": "navigation-2d",
    "NavigationSparse": "navigation-sparse",
    "GridNavi": "gridnavi",
    "Glyphs": "glyphs-5way",
    "GlyphsCats": "glyphs-cats",
    "Games5x5": "games-5x5",
    "AntDir2d": "ant-dir-2d",
    "HalfCheetahDirRllab": "half-cheetah-dir-rllab",
    "Walker2dFlatVaried": "walker2d-flat-varied",
    "CartPole200": "cart-pole-200",
}


@pytest.mark.parametrize("name", SPELLED)
def test_ids_that_scripts_use_stay(name):
    assert gymnasium.spec(f"metarl/{name}-v0").kwargs == {"family": SPELLED[name]}


def test_an_id_takes_the_options_of_its_environment():
    assert gymnasium.make("metarl/Bandit-v0", num_arms=3).action_space.n == 3
    env = gymnasium.make_vec("metarl/TabularMDP-v0", num_envs=2, num_states=4)
    assert env.single_observation_space.n == 4


# An unbounded observation is what a position or a velocity is.
# Gymnasium's own pendulum has torques from -2 to 2.
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
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


@pytest.mark.parametrize("oracle", [False, True])
@pytest.mark.parametrize("name", envs.names())
def test_families_can_be_sent_to_a_worker(name, oracle):
    tasks = envs.make(name, oracle=oracle)
    copy = pickle.loads(pickle.dumps(tasks))
    assert (copy.name, copy.view) == (tasks.name, tasks.view)
    for split in tasks.splits:
        assert copy.sample(split, 3, seed=0) == tasks.sample(split, 3, seed=0)
    build(copy.make_vec, 2).close()


def test_what_bandits_are_compared_with():
    assert "gittins-index" in envs.make("bandit-500x5").references
    # Its table grows with the cube of the pulls.
    assert envs.make("bandit-601x5").references == tuple(
        name for name in envs.make("bandit-10x5").references if name != "gittins-index"
    )
    assert envs.make("bandit-10x5", oracle=True).references == ()
    assert envs.make("navigation-2d").references == ()


def test_the_oracle_sees_the_task():
    view = envs.make("navigation-2d", oracle=True)
    assert (view.name, view.label) == ("navigation-2d", "navigation-2d (oracle)")
    env = view.make_vec(3)
    goals = view.sample("train", 3, seed=0)
    assert goals == envs.make("navigation-2d").sample("train", 3, seed=0)
    env.set_tasks(goals)
    observations, _ = env.reset(seed=0)
    assert observations.shape == (3, 4)  # where it is, and the goal in units of its range
    assert len(np.unique(observations[:, 2:])) == 6
    assert view.oracle() is view
    with pytest.raises(ValueError, match="unknown family 'bandit-10'"):
        envs.make("bandit-10", oracle=True)


def test_options_are_applied_in_one_order():
    view = envs.make("half-cheetah-climb", oracle=True, num_train_tasks=3, train_split="steep")
    assert view.view == {"train_split": "steep", "num_train_tasks": 3, "oracle": True}
    assert view.label == "half-cheetah-climb (trained on steep, 3 training tasks, oracle)"
    train = view.sampler("train").columns["degrees"]
    assert len(train) == 3
    assert (np.abs(train) >= 15.0).all()
    by_hand = envs.make("half-cheetah-climb").oracle().trained_on("steep").limited(3)
    assert by_hand.view == view.view
    np.testing.assert_array_equal(by_hand.sampler("train").columns["degrees"], train)
    # Another split to train on has all of its tasks again.
    assert by_hand.trained_on("uphill").view == {"train_split": "uphill", "oracle": True}
    assert by_hand.trained_on("train") is by_hand


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"train_split": "up"}, ValueError, "unknown split of 'half-cheetah-climb': 'up'"),
        ({"num_train_tasks": 0}, ValueError, "num_train_tasks must be at least 1, got 0"),
        ({"num_train_tasks": "4"}, TypeError, "num_train_tasks must be an integer"),
        ({"train_tasks_seed": 1}, ValueError, "but num_train_tasks is not given"),
        (
            {"num_train_tasks": 4, "train_tasks_seed": -1},
            ValueError,
            "train_tasks_seed must be at least 0, got -1",
        ),
    ],
)
def test_options_that_do_not_fit(options, error, match):
    with pytest.raises(error, match=match):
        envs.make("half-cheetah-climb", **options)


def test_views_in_names_of_files():
    assert slug("half-cheetah-dir", {"oracle": True}) == "half-cheetah-dir-oracle"
    view = {"train_split": "any", "num_train_tasks": 1, "oracle": True}
    assert slug("my.module:tasks", view) == "my.module-tasks-on-any-1task-oracle"
    assert slug("image-folder:a/b", {}) == "image-folder-a-b"
    drawn = envs.make("bandit-10x5", num_train_tasks=4, train_tasks_seed=2)
    assert drawn.view == {"num_train_tasks": 4, "train_tasks_seed": 2}
    assert slug(drawn.name, drawn.view) == "bandit-10x5-4tasks-draw2"
    assert drawn.label == "bandit-10x5 (4 training tasks, draw 2)"
    assert drawn.trained_on("held_out").view == {"train_split": "held_out"}


def test_a_step_without_a_result_is_refused():
    class Old(RiskVectorEnv):
        def step_lanes(self, ids, actions):
            result = super().step_lanes(ids, actions)
            return result.observations, result.rewards, result.terminated

    env = Old(2)
    env.reset(seed=0)
    with pytest.raises(TypeError, match=r"step_lanes of Old must return metarl.StepResult\("):
        env.step(np.zeros(2, dtype=int))
