"""Your own gymnasium environment: which mistakes are found, and when, and what is said of them."""

import gc

import gymnasium
import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from custom_envs import (
    ENDS,
    GRAVITY,
    Stub,
    TaskCartPole,
    by_factory,
    by_set_task,
    make_env,
    stubs,
)
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit

from metarl import Choice, Independent, Task, TaskSet, Uniform, evaluate
from metarl.agents.classical.random_actions import RandomActions
from metarl.envs import from_gymnasium, from_vector_env
from metarl.experiments.reports.video import record_adaptation


class Worded(Stub):
    observation_space = spaces.Dict({"seen": spaces.Discrete(2), "said": spaces.Text(9)})


class Wide(Stub):
    observation_space = spaces.Box(0.0, 99.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("env", "distributions", "options", "error", "match"),
    [
        ("CartPol-v1", GRAVITY, {}, ValueError, "Did you mean: `CartPole`"),
        ("CartPole-v1", {"gravty": Uniform(5.0, 15.0)}, {}, ValueError, "mean 'gravity'"),
        ("CartPole-v1", {}, {}, ValueError, "at least one parameter"),
        ("CartPole-v1", GRAVITY, {"horizon": 0}, ValueError, "horizon must be at least 1"),
        (make_env, {"lenght": Uniform(0.1, 1.0), **GRAVITY}, {}, ValueError, "mean 'length'"),
        (CartPoleEnv, GRAVITY, {}, ValueError, r"needs a method set_task\(task\), or the factory"),
        (CartPoleEnv(), GRAVITY, {}, TypeError, "pass `lambda: MyEnv"),
        (lambda gravity: None, {"gravity": Uniform(5.0, 15.0)}, {}, TypeError, "got None"),
        (TaskCartPole, GRAVITY, {}, ValueError, "no time limit: pass horizon="),
        (by_set_task, GRAVITY, {"horizon": 900}, ValueError, "beyond the time limit .* 500 steps"),
        (Worded, ENDS, {"horizon": 9}, ValueError, r"FilterObservation\(env, \['seen'\]\)"),
        (by_factory, GRAVITY, {"splits": {"up": {"gravit": Uniform(1, 2)}}}, ValueError,
         "mean 'gravity'"),
        (by_factory, GRAVITY, {"episodes_per_trial": 0}, ValueError, "at least 1, got 0"),
        (by_factory, None, {}, ValueError, "parameters, or a TaskSet for each of the splits"),
        (by_factory, TaskSet.product({"gravity": Choice((1.0, 2.0))}), {}, TypeError,
         "pass sets of tasks as splits="),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(env, distributions, options, error, match):
    with pytest.raises(error, match=match):
        from_gymnasium(env, distributions, **options)


class Broken(Stub):
    """Does in its second step what ``fault`` says."""

    def __init__(self, fault, end=99, cut=99):
        super().__init__(end, cut)
        self.fault = fault

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.steps == 2:
            if self.fault == "raise":
                raise ZeroDivisionError("the wheel fell off")
            if self.fault == "exit":
                raise SystemExit(0)
            if self.fault == "old":
                return observation, reward, terminated, info
            if self.fault == "none":
                reward = None
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ("raise", ZeroDivisionError, "the wheel fell off"),
        ("exit", RuntimeError, r"called sys.exit\(0\) in step 2 of an episode of Task\(stub"),
        ("old", ValueError, r"step must return \(observation, reward, terminated, truncated, info"),
        ("none", ValueError, "a number as the reward, got None"),
    ],
)
def test_an_environment_that_fails_says_where(fault, error, match):
    tasks = from_gymnasium(lambda end, cut: Broken(fault, 99, 99), ENDS, name="stub", horizon=5)
    for view in (tasks, tasks.oracle()):
        env = view.make_vec(1)
        env.reset(seed=0)
        env.step(np.zeros((1, 1)))
        with pytest.raises(error, match=match) as caught:
            env.step(np.zeros((1, 1)))
        if fault == "raise" and hasattr(caught.value, "__notes__"):
            assert caught.value.__notes__[0].startswith("in step 2 of an episode of Task(stub")


def test_an_environment_that_cannot_be_built_is_not_taken_for_the_one_before():
    def moody(end):
        if end == 3:
            raise OSError("no such level")
        return Stub(end)

    env = from_gymnasium(moody, {"end": Choice((2, 3))}, horizon=9).make_vec(1)
    env.reset(seed=0)
    env.set_tasks([Task("stub", {"end": 3})])
    for _ in range(2):
        with pytest.raises(OSError, match="no such level"):
            env.reset()


def test_a_batch_is_no_environment():
    with pytest.raises(TypeError, match=r"the batch .* from_vector_env, .* is a metarl.TaskVec"):
        from_gymnasium(lambda: gymnasium.make_vec("CartPole-v1", 2), GRAVITY, name="poles")


def test_observations_of_the_wrong_shape():
    env = from_gymnasium(Wide, ENDS, horizon=5).make_vec(1)
    with pytest.raises(ValueError, match=r"shape \(1,\), but its observation space is Box"):
        env.reset(seed=0)


class Odd(Stub):
    """Returns the reward and the flags that it was made with."""

    def __init__(self, reward=0.0, terminated=False, truncated=False, info=None, end=9, cut=9):
        super().__init__(end, cut)
        self.returned = reward, terminated, truncated, info or {}

    def step(self, action):
        return super().step(action)[0], *self.returned


def odd_step(**returned):
    """Return the rewards and flags of a step of two environments, the second as it should be."""
    tasks = from_gymnasium(
        lambda end, cut: Odd(**returned) if end == 2 else Odd(), ENDS, name="odd", horizon=5
    )
    env = tasks.make_vec(2)
    env.set_tasks([Task("odd", {"end": end, "cut": 99}) for end in (2, 99)])
    env.reset(seed=0)
    return env.step(np.zeros((2, 1)))[1:]


TRUE = (True, np.True_, 1, np.int64(1), np.array(True), np.array([True]), torch.tensor([True]))


@pytest.mark.parametrize("flag", TRUE)
def test_flags_in_any_form(flag):
    for name, place in (("terminated", 1), ("truncated", 2)):
        flags = odd_step(**{name: flag})[place]
        assert flags.dtype == np.bool_
        assert flags.tolist() == [True, False]
    info = odd_step(info={"success": flag})[3]
    assert info["success"].tolist() == [True, False]


NO_FLAGS = (np.array([False, True]), {"a": False}, "False", float("nan"), None, 2, 0.5, [])


@pytest.mark.parametrize("flag", NO_FLAGS)
def test_what_is_no_flag_is_refused(flag):
    for name in ("terminated", "truncated"):
        with pytest.raises(
            ValueError, match=rf"Task\(odd: end=2.*: step must return True or False as {name}, got "
        ):
            odd_step(**{name: flag})
    with pytest.raises(ValueError, match=r"True or False as info\['success'\], got "):
        odd_step(info={"success": flag})


ONE_AND_A_HALF = (1.5, np.float32(1.5), np.array([1.5]), torch.tensor(1.5, requires_grad=True))


@pytest.mark.parametrize("reward", [*ONE_AND_A_HALF, True, np.True_, np.array([[2]]), 2])
def test_rewards_in_any_form(reward):
    rewards = odd_step(reward=reward)[0]
    assert rewards.dtype == np.float64
    assert rewards.tolist() == [float(reward.item() if hasattr(reward, "item") else reward), 0.0]


@pytest.mark.parametrize("reward", [1 + 0j, "1", None, np.zeros(2), {}, np.array("1"), b"1"])
def test_what_is_no_reward_is_refused(reward):
    with pytest.raises(ValueError, match="step must return a number as the reward, got "):
        odd_step(reward=reward)


def test_spaces_that_depend_on_the_task_are_refused():
    class Buttons(Stub):
        def __init__(self, end, cut):
            super().__init__(end, cut)
            self.action_space = spaces.Discrete(end)

        def set_task(self, task):
            self.action_space = spaces.Discrete(task["end"])

    match = r"Task\(\w+: end=99.*\) has the action space Discrete\(99\), .* Discrete\(2\); expected"
    for factory in (Buttons, lambda: Buttons(2, 99)):
        tasks = from_gymnasium(factory, ENDS, name="buttons", horizon=5)
        env = tasks.make_vec(2)
        env.set_tasks([Task("buttons", {"end": 2, "cut": 99})] * 2)
        env.reset(seed=0)
        env.set_tasks([Task("buttons", {"end": end, "cut": 99}) for end in (2, 99)])
        for _ in range(2):
            with pytest.raises(ValueError, match=match):
                env.reset()


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
def test_wrappers_that_carry_statistics_between_tasks_are_refused(wrapper):
    class Own(wrapper):
        def set_task(self, task):
            pass

    for factory in (lambda: TimeLimit(Own(Stub()), 5), lambda end, cut: wrapper(Stub(end, cut))):
        with pytest.raises(ValueError, match=r"running statistics.*remove the wrapper .* RL2"):
            from_gymnasium(factory, ENDS, name="stub", horizon=5)

    def frozen(end, cut):
        env = wrapper(Stub(end, cut))
        env.update_running_mean = False
        return env

    from_gymnasium(frozen, ENDS, horizon=5)


def test_a_time_limit_that_depends_on_the_task():
    def make_env(end, cut):
        return TimeLimit(Stub(end, 99), cut)

    distributions = {"end": Choice((99,)), "cut": Choice((4, 3, 6))}
    drawn = [Task("stub", {"end": 99, "cut": cut}) for cut in (3, 4, 6)]

    def lengths(tasks, drawn):
        env = tasks.make_vec(len(drawn))
        env.set_tasks(drawn)
        env.reset(seed=0)
        cuts = [env.step(np.zeros((len(drawn), 1)))[3] for _ in range(env.horizon)]
        return (np.argmax(cuts, axis=0) + 1).tolist()

    tasks = from_gymnasium(make_env, distributions, name="stub")
    assert tasks.make_vec(1).horizon == 4
    assert lengths(tasks, drawn[:2]) == [3, 4]
    match = r"cut=6.* limit of 6 steps, beyond that of the default task, 4 steps; pass horizon=4"
    with pytest.raises(ValueError, match=match):
        lengths(tasks, drawn)
    assert lengths(from_gymnasium(make_env, distributions, name="stub", horizon=4), drawn) == [
        3,
        4,
        4,
    ]


def test_tasks_of_every_split_are_allowed_and_no_others():
    splits = {"moon": {"gravity": Uniform(1.0, 2.0)}, "weak": {"force_mag": Choice((5.0,))}}
    env = from_gymnasium("CartPole-v1", GRAVITY, splits=splits).make_vec(1)
    for gravity, force in ((1.0, 5.0), (15.0, -10.0), (3.0, 10.0)):
        env.set_tasks([Task("pole", {"gravity": gravity, "force_mag": force})])
    for gravity, force in ((0.9, 5.0), (15.0, 6.0)):
        with pytest.raises(ValueError, match="is not allowed by"):
            env.set_tasks([Task("pole", {"gravity": gravity, "force_mag": force})])


def test_pictures_need_a_reset():
    env = stubs().make_vec(2, render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"call reset\(\) before render\(\)"):
        env.render()


# Names and kinds of parameters.


@pytest.mark.parametrize("splits", [None, {"held_out": {"end": (2, 99)}}])
def test_bounds_given_as_a_tuple_are_refused(splits):
    own = (2.0, 99.0) if splits is None else Uniform(2.0, 99.0)
    for make in (from_gymnasium, from_vector_env):
        with pytest.raises(TypeError, match=r"end must be a distribution, such as Uniform\(.*\(2"):
            make(Stub, {"end": own}, horizon=5, splits=splits)
    with pytest.raises(TypeError, match="end must be a distribution"):
        Independent({"end": (2.0, 99.0)})


def test_a_factory_whose_argument_has_another_name_is_refused():
    with pytest.raises(ValueError, match="needs the argument 'gravity', which is none of the para"):
        from_gymnasium(lambda gravity: Stub(), {"g": Uniform(5.0, 15.0)}, horizon=5)
    with pytest.raises(ValueError, match="needs the argument 'size', which is none of the paramet"):
        from_gymnasium(lambda g, size: Stub(), {"g": Uniform(5.0, 15.0)}, horizon=5)


@pytest.mark.parametrize("name", ["step", "action_space", "seed_of"])
def test_methods_and_interface_are_no_parameters(name):
    class Gym(Stub):
        @property
        def seed_of(self):
            return 1

    gymnasium.register("test/Gym-v0", Gym, max_episode_steps=5)
    try:
        with pytest.raises(ValueError, match=f"{name}.*pass a factory instead of the id"):
            from_gymnasium("test/Gym-v0", {name: Uniform(0.0, 1.0)})
    finally:
        del gymnasium.registry["test/Gym-v0"]


def test_render_mode_is_no_parameter():
    with pytest.raises(ValueError, match="a parameter cannot be called 'render_mode'"):
        from_gymnasium(Stub, {"render_mode": Choice(("human",))}, horizon=5)


# What is opened is closed.


class Port(Stub):
    """Only one may be open."""

    opened = 0
    broken = False

    def __init__(self, end=99, render_mode=None):
        super().__init__(end)
        assert Port.opened == 0, "port in use"
        if Port.broken:
            raise OSError("no answer")
        Port.opened += 1

    def close(self):
        Port.opened -= 1


@pytest.fixture
def ports():
    Port.opened, Port.broken = 0, False
    return from_gymnasium(Port, {"end": Uniform(2.0, 99.0)}, horizon=5)


def test_an_environment_is_closed_before_the_next_is_built(ports):
    env = ports.make_vec(1)
    for seed in range(3):
        env.set_tasks(ports.sample("train", 1, seed))
        env.reset(seed=0)
        assert Port.opened == 1
    env.close()
    assert Port.opened == 0


def test_where_the_next_cannot_be_built_no_closed_one_is_stepped(ports):
    env = ports.make_vec(1)
    env.set_tasks(ports.sample("train", 1, 0))
    Port.broken = True
    with pytest.raises(OSError, match="no answer"):
        env.reset(seed=0)
    assert Port.opened == 0
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step"):
        env.step(np.zeros((1, 1)))
    Port.broken = False
    env.reset()
    env.step(np.zeros((1, 1)))
    env.close()
    assert Port.opened == 0


def test_a_batch_that_is_dropped_is_closed(ports):
    env = ports.make_vec(1)
    assert Port.opened == 1
    del env
    gc.collect()
    assert Port.opened == 0
    batch = ports.oracle().make_vec(1)
    del batch
    gc.collect()
    assert Port.opened == 0


def test_what_is_refused_is_closed(ports):
    class NoTask(Port):
        pass

    class NoHorizon(Port):
        observation_space = spaces.Text(3)

    for env in (lambda: NoTask(), NoHorizon, Port):
        with pytest.raises(ValueError):  # noqa: PT011
            from_gymnasium(env, {"end": Uniform(2.0, 99.0)}, horizon=None if env is Port else 5)
        assert Port.opened == 0


def test_all_are_closed_where_one_fails_to(ports):
    class Sticky(Stub):
        closed = 0

        def close(self):
            Sticky.closed += 1
            raise OSError("stuck")

    env = from_gymnasium(lambda end: Stub(end), {"end": Uniform(2.0, 99.0)}, horizon=5).make_vec(2)
    env.reset(seed=0)
    env._envs.update({0: Sticky(), 1: Sticky()})
    with pytest.raises(OSError, match="stuck"):
        env.close()
    assert Sticky.closed == 2


def test_an_evaluation_that_fails_closes_its_environments(ports):
    class Failing:
        name, episodes_per_adaptation = "failing", 1

        def adaptation(self, num_tasks, *, seed=0, deterministic=False):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate(Failing(), ports, num_tasks=1)
    assert Port.opened == 0


# Videos.


class Filmed(Stub):
    def render(self):
        return self.frame(self.steps)


def film(frame, path, metadata=None, horizon=3):
    class Env(Filmed):
        pass

    Env.frame = staticmethod(frame)
    Env.metadata = {"render_modes": ["rgb_array"], **(metadata or {})}
    tasks = from_gymnasium(Env, {"end": Uniform(90.0, 99.0)}, horizon=horizon, name="filmed")
    return record_adaptation(RandomActions(tasks), tasks, path, num_episodes=1)


def test_a_video_needs_no_render_fps(tmp_path):
    for fps, duration in ((None, 33.0), (10, 100.0)):
        path = film(
            lambda step: np.full((16, 16, 3), 99 * step, np.uint8),
            tmp_path / "film.gif",
            {} if fps is None else {"render_fps": fps},
        )
        frames = imageio.imread(path)
        assert (len(frames), *frames.shape[2:]) == (3, 32, 3)
        assert frames.shape[1] % 16 == 0  # as video codecs want it
        assert imageio.immeta(path)["duration"] == pytest.approx(duration, abs=4.0)


def test_a_video_of_one_step_has_one_frame(tmp_path):
    path = film(lambda step: np.zeros((16, 16, 3), np.uint8), tmp_path / "film.gif", horizon=1)
    assert imageio.imread(path).squeeze().shape[1:] == (32, 3)


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (lambda step: None, r"\(height, width, 3\), got None"),
        (lambda step: np.zeros((16, 16, 3)), r"got float64 of shape \(16, 16, 3\)"),
        (lambda step: np.zeros((16, 16), np.uint8), r"got uint8 of shape \(16, 16\)"),
        (lambda step: np.zeros((16 + step, 16, 3), np.uint8),
         r"must have one size, filmed gave \(16, 16\) and \(18, 16\)"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(frame, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        film(frame, tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())
