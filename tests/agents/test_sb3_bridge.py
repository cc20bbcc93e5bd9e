"""Families for Stable-Baselines3's algorithms, its policies in ``evaluate``, baselines on PPO."""

import copy
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import _check_unsupported_spaces
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from toys import BOX, ONE_STEP, OneStepVectorEnv, aim, risk, strolls
from toys import signposts as posts

from metarl import Choice, TaskDistribution, Tasks, evaluate, rollout
from metarl.agents import FineTune, FromScratch, MultiTask, SB3Agent, TaskVecEnv
from metarl.agents.sb3.fine_tune import PPOAdaptation
from metarl.agents.sb3.streams import global_streams
from metarl.agents.sb3.vec_env import FlatVecEnv, scaled, translation
from metarl.batches import take
from metarl.envs import from_gymnasium
from metarl.errors import DivergedError
from metarl.seeding import stream, stream_seed
from metarl.trial import TrialInput

# Families as vector environments of SB3.


def run(venv, num_steps, seed=0):
    """Step random actions; return what every step gave, and the actions."""
    space, first = venv.action_space, venv.reset()
    space.seed(seed)
    steps = []
    for _ in range(num_steps):
        actions = np.array([space.sample() for _ in range(venv.num_envs)])
        steps.append((actions, *venv.step(actions)))
    return first, steps


def test_steps_are_those_of_the_batch():
    family = strolls()
    venv = TaskVecEnv(family, 5, seed=3)
    first, steps = run(venv, 7)  # new tasks come after 8 steps
    env = family.make_vec(5)
    draw = stream(3, "draw", 0)
    env.set_tasks(family.sample("train", 5, draw))
    expected, _ = env.reset(seed=stream_seed(draw, "envs"))
    assert np.array_equal(first, expected)
    ends = 0
    for actions, observations, rewards, dones, infos in steps:
        following, earned, terminated, truncated, info = env.step(actions)
        assert np.array_equal(observations, following)
        assert np.array_equal(rewards, earned)
        assert np.array_equal(dones, terminated | truncated)
        for i in np.flatnonzero(dones):
            assert np.array_equal(infos[i]["terminal_observation"], info["final_obs"][i])
            assert infos[i]["TimeLimit.truncated"] == truncated[i]
            ends += 1
    assert ends > 3


def test_tasks_are_new_after_the_longest_episode_and_what_runs_is_cut():
    venv = TaskVecEnv(strolls(), 6, seed=1)
    _, steps = run(venv, 8)
    (*_, dones, infos) = steps[-1]
    assert dones.all()
    # A cut is no end of the task: those that did not terminate are marked.
    terminated = [not info["TimeLimit.truncated"] for info in infos]
    assert 0 < sum(terminated) < 6 or not any(terminated)
    total = sum(step[2].sum() for step in steps)
    seen = sum(info["episode"]["r"] for step in steps for info in step[4] if info)
    assert seen == pytest.approx(total)
    before = venv.env.tasks
    run(venv, 8)
    assert before != venv.env.tasks


def test_an_episode_of_sb3_is_a_whole_trial():
    family = posts(episodes_per_trial=2)
    venv = TaskVecEnv(family, 4, seed=2, episodes_per_trial=2)
    first, steps = run(venv, 60)
    rows = TrialInput(venv.env.single_observation_space, venv.env.single_action_space)
    assert np.array_equal(first[:, rows.action.start :], np.zeros((4, 4)))
    episodes, trials = np.zeros(4, dtype=int), 0
    for actions, seen, rewards, dones, infos in steps[:-1]:  # the last one starts new tasks
        last = np.array(
            [infos[i].get("terminal_observation", seen[i]) for i in range(4)]
        )  # before a new trial begins
        assert np.array_equal(last[:, rows.reward.start], rewards.astype(np.float32))
        assert np.array_equal(last[:, rows.action].argmax(1), actions)
        episodes += last[:, rows.episode_end.start] == 1.0
        assert np.array_equal(dones, episodes == 2)
        assert not any(info.get("TimeLimit.truncated") for info in infos)
        assert np.array_equal(seen[dones][:, rows.action.start :], np.zeros((dones.sum(), 4)))
        trials += dones.sum()
        episodes[dones] = 0
    assert trials > 4


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_algorithms_of_sb3_train_unchanged_and_are_judged(algorithm):
    family = posts().oracle()
    venv = VecNormalize(VecMonitor(TaskVecEnv(family, 16)))
    model = algorithm("MlpPolicy", venv, n_steps=32, seed=0, device="cpu")
    model.learn(1024)
    agent = SB3Agent(model, family, normalize=venv)
    reports = [evaluate(agent, family, num_tasks=6, num_episodes=2, seed=s) for s in (1, 1, 2)]
    assert np.array_equal(reports[0].returns, reports[1].returns)
    assert not np.array_equal(reports[0].returns, reports[2].returns)
    assert reports[0].agent == algorithm.__name__


def test_sac_learns_as_an_oracle():
    family = aim().oracle()
    venv = TaskVecEnv(family, 8)
    net = {"net_arch": [16]}
    model = SAC("MlpPolicy", venv, 5e-3, gamma=0.0, learning_starts=64, seed=0, policy_kwargs=net)
    model.learn(1500)
    report = evaluate(SB3Agent(model, family), family, num_tasks=100, num_episodes=2)
    assert (
        report.returns.mean() > 0.5
    )  # whoever does not see the target, or does not use it, earns 0


@pytest.mark.slow
def test_a_recurrent_policy_of_sb3_learns_to_learn_from_trials():
    family = risk(6)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        TaskVecEnv(family, 64, episodes_per_trial=6),
        learning_rate=5e-3,
        n_steps=6,
        batch_size=384,
        n_epochs=4,
        gamma=1.0,
        gae_lambda=1.0,
        ent_coef=0.05,
        seed=0,
        policy_kwargs={"lstm_hidden_size": 16, "net_arch": []},
    )
    model.learn(80 * 384)
    report = evaluate(SB3Agent(model, family, trials=True), family, num_tasks=400)
    # As in test_rl2_learning.py: 3.3 without taking a risk, 4.4 at best.
    assert report.trial_returns.mean() > 4.0


class Remembers:
    """A policy with a state, in SB3's words: it counts its steps since the last start."""

    def __init__(self):
        self.counts = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        count = np.zeros(len(observation)) if state is None else state[0]
        count = np.where(episode_start, 0, count) + 1
        self.counts.append(count)
        return np.zeros(len(observation), dtype=np.int64), (count,)


@pytest.mark.parametrize(("trials", "most"), [(False, 1), (True, 5)])
def test_a_state_is_kept_over_episodes_by_what_was_trained_on_trials(trials, most):
    model = Remembers()
    evaluate(SB3Agent(model, risk(), trials=trials), risk(), num_tasks=3, num_episodes=5)
    assert np.max(model.counts) == most
    with pytest.raises(TypeError, match=r"SB3's predict\(\), got 3"):
        SB3Agent(3, risk())


def test_global_streams_are_put_back():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with global_streams(5):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with global_streams(5):
        assert torch.equal(torch.rand(3), inside)


def test_actions_are_scaled_to_the_bounds():
    assert scaled(BOX) == spaces.Box(-1.0, 1.0, (2,), np.float32)
    low, high = np.full((1, 2), -1.0), np.full((1, 2), 9.0)
    assert translation(BOX)(low).tolist() == [BOX.low.tolist()]
    assert translation(BOX)(high).tolist() == [BOX.high.tolist()]


def test_sb3_clips_only_dimensions_that_have_two_bounds():
    space = spaces.Box(np.float32([-4, -np.inf, 0]), np.float32([4, np.inf, np.inf]))
    widest = np.finfo(np.float32).max
    assert scaled(space).high.tolist() == [1.0, widest, widest]
    actions = np.clip(np.float32([[-50, -50, -50]]), scaled(space).low, scaled(space).high)
    assert translation(space)(actions).tolist() == [[-4.0, -50.0, 0.0]]


class Recalls(gymnasium.Env):
    """Shows the last action, among much else, and remembers what it was given."""

    given: set = set()  # noqa: RUF012 (of all environments)

    def __init__(self, action_space, gain=1.0):
        self.action_space, self.gain = action_space, gain
        self.observation_space = spaces.Dict(
            {
                "last": action_space,
                "place": spaces.Discrete(2, start=5),
                "cards": spaces.MultiDiscrete([[2, 3]], start=[[7, -1]]),
            }
        )

    def _see(self, action):
        return {"last": action, "place": 5 + self.steps % 2, "cards": np.array([[8, 1]])}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._see(self.action_space.sample()), {}

    def step(self, action):
        assert self.action_space.contains(action)
        Recalls.given.add(str(np.asarray(action).tolist()))
        self.steps += 1
        return self._see(action), float(np.sum(action)), False, False, {}


COUNTS = {
    "discrete": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 3], start=[4, -1]),
    "multi-discrete of two rows": spaces.MultiDiscrete([[2, 2], [1, 1]], start=[[1, 2], [3, 4]]),
    "multi-binary of two rows": spaces.MultiBinary([2, 1]),
}


def recalls(space):
    return from_gymnasium(
        partial(Recalls, space), {"gain": Choice((1.0, 2.0))}, horizon=8, shares_tasks=True,
        name="recalls",
    )  # fmt: skip


def all_of(space):
    """Return all values of a space, as texts."""
    space.seed(0)
    return {str(np.asarray(space.sample()).tolist()) for _ in range(200)}


@pytest.mark.parametrize("kind", [MultiTask, FineTune, FromScratch])
@pytest.mark.parametrize("name", COUNTS)
def test_agents_on_sb3_play_all_discrete_actions_and_no_others(name, kind):
    family, Recalls.given = recalls(COUNTS[name]), set()
    options = {"num_envs": 16, "batch_size": 128, "n_epochs": 1}
    if kind is not MultiTask:
        options["episodes_per_adaptation"] = 2
    agent = kind(family, seed=0, **options)
    if kind is MultiTask:  # fine-tune is trained by the same, from-scratch not at all
        agent.learn(1)
        assert Recalls.given != set()
    evaluate(agent, family, num_tasks=16, num_episodes=2)
    assert Recalls.given == all_of(COUNTS[name])
    observation = agent.observation_space.sample()
    assert agent.action_space.contains(agent.predict(observation)[0])


@pytest.mark.parametrize(
    ("name", "trials"),
    # RecurrentPPO of sb3-contrib 2.9 takes no MultiBinary actions at all.
    [(name, None) for name in COUNTS] + [(name, 2) for name in COUNTS if "binary" not in name],
)
def test_sb3_gets_discrete_spaces_that_start_at_zero(name, trials, recwarn):
    family, Recalls.given = recalls(COUNTS[name]), set()
    venv = TaskVecEnv(family, 16, episodes_per_trial=trials)
    _check_unsupported_spaces(None, venv.observation_space, venv.action_space)  # warns
    algorithm, policy = PPO, "MultiInputPolicy"
    if trials is not None:
        algorithm, policy = RecurrentPPO, "MlpLstmPolicy"
    model = algorithm(policy, venv, n_steps=8, batch_size=128, n_epochs=1, seed=0, device="cpu")
    model.learn(128)
    assert Recalls.given == all_of(COUNTS[name])
    first = venv.reset()
    if trials is None:
        assert all(venv.observation_space.contains(take(first, i)) for i in range(16))
        assert np.array_equal(first["place"], np.zeros(16))
        assert np.array_equal(first["cards"], np.tile([1, 2], (16, 1)))
    Recalls.given = set()
    agent = SB3Agent(model, family, trials=trials is not None)
    evaluate(agent, family, num_tasks=16, num_episodes=2)
    assert Recalls.given == all_of(COUNTS[name])
    assert not recwarn.list


def test_what_ends_an_episode_is_seen_from_zero_too():
    venv = TaskVecEnv(recalls(COUNTS["discrete"]), 3)
    venv.reset()
    for _ in range(8):
        *_, infos = venv.step(np.array([0, 1, 2]))
    assert [info["terminal_observation"]["last"] for info in infos] == [0, 1, 2]
    assert Recalls.given >= {"-1", "0", "1"}


class PullVectorEnv(OneStepVectorEnv):
    """The nearer the action is to 3, the better."""

    def __init__(self, num_envs, action_space):
        parameters = {"gain": Choice((1.0, 2.0))}
        super().__init__(num_envs, parameters=parameters, action_space=action_space, **ONE_STEP)

    def _reward(self, task, actions):
        assert all(self.single_action_space.contains(action) for action in actions)
        return -np.abs(actions - 3.0).mean(axis=1)


@pytest.mark.filterwarnings("ignore:the action space")
@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (1,)),
        spaces.Box(0.0, np.inf, (1,)),
        spaces.Box(np.float32([-9, -np.inf]), np.float32([9, np.inf])),
        spaces.Box(-np.inf, np.inf, (1,), np.int64),
    ],
    ids=str,
)
def test_actions_without_bounds_are_learned_in_the_environments_own_units(space):
    family = TaskDistribution(
        name="pull",
        parameters={"gain": Choice((1.0, 2.0))},
        env_factory=partial(PullVectorEnv, action_space=space),
        shares_tasks=True,
    )
    agent = MultiTask(family, seed=0, num_envs=512, learning_rate=1e-2, normalize=False)
    returns = []
    for _ in range(2):
        report = evaluate(agent, family, num_tasks=50, num_episodes=1, deterministic=True)
        returns.append(report.returns.mean())
        agent.learn(1)
    assert returns[0] == pytest.approx(-3, abs=0.3)  # it plays about 0
    assert returns[1] > -2.7


# The baselines.

FAST = {"num_envs": 32, "learning_rate": 3e-3, "batch_size": 256}


@pytest.mark.slow
def test_multi_task_learns_what_is_alike_in_all_tasks_and_nothing_else():
    # An oracle earns 0.9 and more; without the target, the best is to aim at 0 (or anywhere),
    # which earns 0 on average.
    scores = {}
    for family in (aim(), aim().oracle()):
        agent = MultiTask(family, seed=0, **{**FAST, "num_envs": 128}).learn(30_000)
        scores[family.label] = evaluate(agent, family, num_tasks=100, seed=1).returns.mean()
    assert scores["aim (oracle)"] > 0.7
    assert abs(scores["aim"]) < 0.1


def test_multi_task_learns_what_sb3s_own_ppo_learns():
    """PPO.learn on the same environments, with the same streams, ends in the same bits."""
    agent = MultiTask(strolls(), seed=4, **{**FAST, "num_envs": 256, "n_epochs": 3})
    start = copy.deepcopy(agent.policy.state_dict())
    agent.learn(4096)

    class Streams(BaseCallback):
        """Seeds what SB3 draws from as the agent does."""

        iteration = 0

        def seed_with(self, name):
            np.random.seed(stream_seed(4, name, self.iteration) % 2**32)  # noqa: NPY002
            torch.manual_seed(stream_seed(4, name, self.iteration))

        def _on_training_start(self):  # SB3 has reset the environments once
            self.training_env.obs_rms = copy.deepcopy(moments)

        def _on_rollout_start(self):
            self.training_env.seed(stream_seed(4, "tasks", self.iteration))
            self.model._last_obs = self.training_env.reset()
            self.seed_with("actions")

        def _on_rollout_end(self):
            self.seed_with("minibatches")
            self.iteration += 1

        def _on_step(self):
            return True

    venv = VecNormalize(FlatVecEnv(TaskVecEnv(strolls(), 256)))
    moments = copy.deepcopy(venv.obs_rms)
    with global_streams(0):
        ppo = PPO("MlpPolicy", venv, learning_rate=3e-3, n_steps=8, batch_size=256, n_epochs=3)
        ppo.policy.load_state_dict(start)
        ppo.learn(4096, callback=Streams())
    for name, tensor in agent.policy.state_dict().items():
        assert torch.equal(tensor, ppo.policy.state_dict()[name]), name


def test_a_killed_training_goes_on_in_the_same_bits(tmp_path):
    def agent():
        return MultiTask(strolls(), seed=4, **{**FAST, "num_envs": 256, "n_epochs": 2})

    whole = agent().learn(4000)
    half = agent().learn(1)
    half.save(tmp_path / "half")
    resumed = agent()
    resumed.restore(tmp_path / "half")
    resumed.learn(4000 - resumed.num_timesteps, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(tensor, resumed.policy.state_dict()[name]), name
    for name, moments in whole._moments().items():
        assert np.array_equal(moments.mean, resumed._moments()[name].mean)


class Sprint(gymnasium.Env):
    """Good tasks are over after 5 steps and earn 1, the others last 50 steps and earn nothing."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, good):
        self.good = good

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps >= (5 if self.good else 50)
        return np.zeros(1, np.float32), float(over and self.good), over, False, {}


def test_the_log_of_training_counts_short_and_long_episodes_alike():
    good = {"good": Choice((0, 1))}
    family = from_gymnasium(Sprint, good, horizon=50, shares_tasks=True, name="sprint")
    agent = MultiTask(family, seed=0, num_envs=40, n_epochs=1, batch_size=1000)
    lines = {}

    class Lines(KVWriter):
        def write(self, key_values, key_excluded, step=0):
            lines.update(key_values)

        def close(self):
            pass

    agent.set_logger(Logger(None, [Lines()]))
    returns = agent.learn(1).last_rollout.returns
    assert returns.shape == (2 * 40, 1)  # two tasks in each environment
    assert np.array_equal(agent.last_rollout.lengths, np.where(returns == 1, 5, 50))
    share = returns.mean()
    assert 0.3 < share < 0.7  # half of the tasks are good
    assert lines["rollout/return_mean"] == pytest.approx(share)
    assert lines["rollout/ep_len_mean"] == pytest.approx(5 * share + 50 * (1 - share))
    assert not {"rollout/return_first_episode", "rollout/return_last_episode"} & lines.keys()


ADAPTING = {
    "episodes_per_adaptation": 20,
    "adaptation_learning_rate": 1e-2,
    "adaptation_batch_size": 20,
}


@pytest.mark.parametrize("kind", [FineTune, pytest.param(FromScratch, marks=pytest.mark.slow)])
def test_learning_in_the_new_task_finds_it(kind):
    # Before the first update a task earns 0 on average; who has found it, 0.6 and more.
    agent = kind(aim(), seed=0, **FAST, **ADAPTING).learn(4000)
    returns = evaluate(agent, aim(), num_tasks=6, num_episodes=200, seed=1).returns
    assert returns[:, :20].mean() < 0.3
    assert returns[:, -20:].mean() > 0.6
    assert agent.num_timesteps == (0 if kind is FromScratch else 4096)


def test_learning_from_scratch_again_with_another_seed_is_another_try():
    # On the same tasks, with the same noise: what differs is what a task's network begins with.
    returns = {}
    for repetition, seed in enumerate((0, 0, 1)):
        agent = FromScratch(aim(), seed=seed, **FAST, **ADAPTING)
        returns[repetition] = evaluate(agent, aim(), num_tasks=2, num_episodes=40, seed=1).returns
    assert np.array_equal(returns[0], returns[1])
    assert not np.array_equal(returns[0], returns[2])


def test_adapting_leaves_the_agent_as_it_was():
    agent = FineTune(aim(), seed=0, **FAST, **ADAPTING).learn(1)
    before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    moments = {name: m.mean.copy() for name, m in agent._moments().items()}
    evaluate(agent, aim(), num_tasks=2, num_episodes=40)
    assert all(torch.equal(before[n], t) for n, t in agent.policy.state_dict().items())
    assert all(np.array_equal(moments[n], m.mean) for n, m in agent._moments().items())


def test_what_a_task_is_learned_from_is_what_sb3_would_have_collected():
    # Episodes of unequal length, some cut by the time limit: advantages against the definition.
    family = strolls(spaces.Discrete(2), stop=0.1)
    agent = FineTune(family, seed=0, normalize=False, gamma=0.9, gae_lambda=0.8, num_envs=2)
    adaptation = PPOAdaptation(agent, 2, 4, seed=0)
    env = family.make_vec(8)
    env.set_tasks(Tasks.stack([family.sample("train", 2, 5)[i // 4] for i in range(8)]))
    observations, _ = env.reset(seed=7)
    lanes = [[] for _ in range(8)]

    def note(transition):
        for i in np.flatnonzero(transition.active):
            lanes[i].append([part[i] for part in (
                transition.observations, transition.rewards, transition.terminated,
                transition.next_observations)])  # fmt: skip
        return True

    rollout(env, observations, adaptation, 1, note)
    policy = agent.policy

    def value(row):
        with torch.no_grad():
            return policy.predict_values(torch.as_tensor(row[None])).item()

    cuts = 0
    for task in range(2):
        buffer = adaptation._buffer(slice(4 * task, 4 * task + 4))
        expected = []
        for lane in lanes[4 * task : 4 * task + 4]:
            advantage, following, advantages = 0.0, None, []
            for row, reward, terminated, successor in reversed(lane):
                if following is None:
                    following = 0.0 if terminated else value(successor)
                    cuts += not terminated
                delta = reward + 0.9 * following - value(row)
                advantage = delta + 0.9 * 0.8 * advantage
                advantages.append(advantage)
                following = value(row)
            expected += reversed(advantages)
        np.testing.assert_allclose(buffer.advantages[:, 0], expected, atol=1e-5)
    assert 0 < cuts < 8


class Camera(gymnasium.Env):
    """Sees pictures and words of bits; actions earn nothing."""

    observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (8, 8, 1), np.uint8), "bits": spaces.MultiBinary(2)}
    )
    action_space = spaces.MultiDiscrete([2, 3])

    def __init__(self, gain=1.0):
        self.gain = gain

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(self.gain * action.sum()), False, False, {}


def test_baselines_take_images_and_actions_of_parts(tmp_path):
    family = from_gymnasium(Camera, {"gain": Choice((1.0, 2.0))}, horizon=4, shares_tasks=True)
    agent = FineTune(
        family, seed=0, num_envs=512, batch_size=512, n_epochs=1, episodes_per_adaptation=2
    ).learn(1)
    evaluate(agent, family, num_tasks=2, num_episodes=4)
    agent.save(tmp_path / "agent")
    loaded = FineTune.load(tmp_path / "agent", family)
    seen = Camera.observation_space.sample()
    chosen = [each.predict(seen, deterministic=True)[0] for each in (agent, loaded)]
    assert np.array_equal(*chosen)
    assert family.make_vec(1).single_action_space.contains(chosen[0])
    assert set(FlatVecEnv(TaskVecEnv(family, 2)).reset()) == {"row", "pixels"}


def test_a_training_that_diverges_ends_at_its_last_good_state():
    agent = MultiTask(strolls(), seed=0, **{**FAST, "learning_rate": 1e20})
    with pytest.raises(DivergedError, match=r"has diverged; lower learning_rate=1e\+20"):
        agent.learn(10_000)
    assert all(torch.isfinite(tensor).all() for tensor in agent.policy.parameters())
    settings = {**ADAPTING, "adaptation_learning_rate": 1e20}
    agent = FineTune(aim(), seed=0, **FAST, **settings).learn(1)
    with pytest.raises(DivergedError, match=r"rate=1e\+20 no longer gives a distri"):
        evaluate(agent, aim(), num_tasks=1, num_episodes=60)
