"""AD and DPT: what they learn from, how they act, and what they earn where the best is known."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from toys import BOX, ONE_STEP, OneStepVectorEnv, risk, strolls

from metarl import Choice, TaskDistribution, Transition, evaluate
from metarl.agents import AD, DPT
from metarl.agents.classical.random_actions import NoAdaptation, RandomActions
from metarl.agents.common.actions import action_head
from metarl.data import Histories, record
from metarl.seeding import stream_seed

TINY = {"hidden_size": 8, "memory_kwargs": {"num_layers": 2, "num_heads": 2}}
TINY_DPT = {"hidden_size": 8, "num_layers": 2, "num_heads": 2}
SPACES = {
    "box": BOX,
    "discrete": spaces.Discrete(3, start=2),
    "several": spaces.MultiDiscrete([2, 3]),
    "switches": spaces.MultiBinary(2),
}
NUM_CHESTS, NUM_EPISODES = 4, 8


class ChestVectorEnv(OneStepVectorEnv):
    """One of four chests earns 1, always the same; whoever forgets earns a quarter on average."""

    def __init__(self, num_envs):
        super().__init__(
            num_envs,
            parameters={"chest": Choice(range(NUM_CHESTS))},
            action_space=spaces.Discrete(NUM_CHESTS),
            **ONE_STEP,
        )

    def _reward(self, task, actions):
        return (actions == task["chest"]).astype(np.float64)


CHESTS = TaskDistribution(
    name="chests",
    parameters={"chest": Choice(range(NUM_CHESTS))},
    env_factory=ChestVectorEnv,
    shares_tasks=True,
    episodes_per_trial=NUM_EPISODES,
    statistic="mean",
)


class KnownChest:
    """The oracle: its observation ends with the chest, one-hot."""

    name = "known chest"
    episodes_per_adaptation = 1

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        return NoAdaptation(lambda rows: rows[:, -NUM_CHESTS:].argmax(axis=1))


class Opener:
    """Opens a chest it has not tried, drawn at random, until it is paid; then always this one."""

    name = "opener"
    episodes_per_adaptation = 1

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        return Opening(num_tasks, np.random.default_rng(seed))


class Opening:
    def __init__(self, num_tasks, rng):
        self.worth, self.rng = np.ones((num_tasks, NUM_CHESTS)), rng

    def act(self, observations):
        return (self.worth + 0.1 * self.rng.random(self.worth.shape)).argmax(axis=1)

    def observe(self, transition):
        rows = np.arange(len(self.worth))
        self.worth[rows, transition.actions] = 2 * transition.rewards


@pytest.fixture(scope="module")
def openings(tmp_path_factory):
    return Histories(record(Opener(), CHESTS, tmp_path_factory.mktemp("openings"), num_tasks=400))


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    """Histories of the oracle, at first with random actions alone."""
    folder, oracle = tmp_path_factory.mktemp("chests"), KnownChest()
    options = {"num_tasks": 400, "oracle": True, "noise": (1.0, 0.0), "labels": oracle}
    return Histories(record(oracle, CHESTS, folder, **options))


def walks(folder, space):
    """Return histories of random steps in episodes of several lengths, and their family."""
    tasks = strolls(SPACES[space])
    labels = RandomActions(tasks.oracle())
    record(RandomActions(tasks), tasks, folder, num_tasks=6, num_episodes=5, labels=labels)
    return Histories(folder), tasks


def transitions_of(batch, row):
    """Yield the steps of a row of a batch, as an adaptation in one task meets them."""
    for t in np.flatnonzero(batch.mask[row]):
        at = (slice(row, row + 1), t)
        yield Transition(
            batch.observations[at],
            batch.actions[at],
            batch.rewards[at],
            batch.terminated[at],
            batch.truncated[at],
            batch.next_observations[at],
            np.ones(1, dtype=bool),
        )


# What is learned from.


@pytest.mark.parametrize("space", SPACES)
def test_actions_of_environments_are_the_samples_they_were_made_of(space):
    head = action_head(SPACES[space])
    outputs = torch.randn(20, head.num_outputs, generator=torch.Generator().manual_seed(0)) / 10
    samples = head.sample(outputs, torch.zeros(head.num_outputs), None)
    torch.testing.assert_close(head.from_env(head.to_env(samples)), samples)


@pytest.mark.parametrize("space", SPACES)
def test_ad_learns_as_it_acts(space, tmp_path):
    histories, tasks = walks(tmp_path, space)
    agent = AD(tasks, seed=0, policy_kwargs=TINY)
    agent.observation_moments.update(torch.tensor([[0.0, 1.0], [3.0, 0.0]]))
    batch = histories.windows(3, every=2).batch([2, 0, 5])
    head, log_probs = agent.network.action_head, []
    for row in range(3):
        acting = agent.adaptation(1)  # step by step, from the cache of its memory
        for transition in transitions_of(batch, row):
            *_, outputs = acting._act(transition.observations)[1]
            taken = head.from_env(transition.actions)
            log_probs.append(agent.network.distribution(outputs).log_prob(taken))
            acting.observe(transition)
    assert len(log_probs) == batch.mask.sum() < batch.mask.size
    loss, _ = agent.loss(batch, None)
    torch.testing.assert_close(loss, -torch.cat(log_probs).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_dpt_learns_as_it_acts_in_the_states_that_are_drawn(space, consistent, tmp_path):
    histories, tasks = walks(tmp_path, space)
    options = {"context": 5, "queries": 6, "consistent": consistent}
    agent = DPT(tasks, seed=0, policy_kwargs=TINY_DPT, **options)
    agent.observation_moments.update(torch.tensor([[0.0, 1.0], [3.0, 0.0]]))
    batch = histories.windows(2).batch([2, 0, 5])
    head, log_probs, asked = agent.network.action_head, [], set()
    drawn = torch.rand(2, 3, 6, generator=torch.Generator().manual_seed(1))
    for row in range(3):
        steps = list(transitions_of(batch, row))
        following = agent.adaptation(1)  # what is known of the episode at each step
        states, lasts = [], []
        for t, step in enumerate(steps):
            after_best = not t or steps[t - 1].episode_end[0]
            after_best |= np.array_equal(batch.actions[row, t - 1], batch.best_actions[row, t - 1])
            if after_best or not consistent:
                states.append(t)
                lasts.append(following._last_actions.clone())
            following.observe(step)
        for to_place, to_number in drawn[:, row].T:
            place = int(to_place * len(states))
            number = int(to_number * (min(5, len(steps)) + 1))
            asked.add((row, place, number))
            acting = agent.adaptation(1)
            for step in steps[:number]:
                acting.observe(step)
            acting._last_actions = lasts[place].clone()
            outputs = acting.outputs(steps[states[place]].observations)
            best = head.from_env(batch.best_actions[row : row + 1, states[place]])
            distribution = head.distribution(outputs, agent.network.log_std)
            log_probs.append(distribution.log_prob(best))
    assert len(asked) > 12
    loss, _ = agent.loss(batch, torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss, -torch.cat(log_probs).mean(), rtol=1e-4, atol=1e-5)


def test_a_consistent_dpt_acts_by_the_last_action_of_the_episode(tmp_path):
    histories, tasks = walks(tmp_path, "discrete")
    batch = histories.windows(2).batch([2])
    agent = DPT(tasks, seed=0, policy_kwargs=TINY_DPT, consistent=True)
    acting = agent.adaptation(1)
    assert not acting._last_actions.any()
    for step in transitions_of(batch, 0):
        acting.observe(step)
        expected = np.zeros((1, 3))
        if not step.episode_end[0]:
            expected[0, step.actions[0] - 2] = 1.0
        np.testing.assert_array_equal(acting._last_actions, expected)
    assert step.episode_end[0]


def test_dpt_needs_the_best_actions_and_vectors(tmp_path, monkeypatch):
    tasks = strolls()
    record(RandomActions(tasks), tasks, tmp_path, num_tasks=4)
    with pytest.raises(ValueError, match="these histories lack: record them with --labels"):
        DPT(tasks, seed=0).learn(Histories(tmp_path), 1)
    pictures = spaces.Box(0, 255, (4, 4), np.uint8)
    monkeypatch.setitem(ONE_STEP, "observation_space", pictures)
    with pytest.raises(ValueError, match=r"DPT reads vectors, and .* holds images: use AD"):
        DPT(risk(), seed=0)


# Acting.


def test_dpt_does_not_depend_on_the_order_of_transitions_and_forgets_the_oldest(tmp_path):
    histories, tasks = walks(tmp_path, "discrete")
    batch = histories.windows(5).batch([3])
    steps = list(transitions_of(batch, 0))
    assert len(steps) > 8
    agent = DPT(tasks, seed=0, policy_kwargs=TINY_DPT, context=7)
    with torch.no_grad():
        agent.network.nothing.normal_(generator=torch.Generator().manual_seed(0))

    def outputs(order):
        acting = agent.adaptation(1)
        for i in order:
            acting.observe(steps[i])
        return acting.outputs(steps[0].observations)

    some = outputs([1, 4, 2, 3])
    torch.testing.assert_close(outputs([4, 3, 2, 1]), some)
    assert not torch.allclose(outputs([4, 3, 2, 5]), some)
    assert not torch.allclose(outputs([4, 4, 3, 2, 1]), some)  # their number counts
    torch.testing.assert_close(outputs(range(8)), outputs([7, *range(1, 7)]))
    assert not torch.allclose(outputs(range(8)), outputs(range(7)))


def test_a_greedy_ad_takes_the_most_likely_actions():
    network = {"memory": "gru", "hidden_size": 8}
    chooses, draws = (AD(CHESTS, seed=0, policy_kwargs=network, greedy=g) for g in (True, False))
    observations = np.zeros(50, np.int64)

    def actions(agent, **options):
        return agent.adaptation(50, seed=1, **options).act(observations)

    assert len(set(actions(chooses))) == 1
    assert len(set(actions(draws))) == NUM_CHESTS
    np.testing.assert_array_equal(actions(draws, deterministic=True), actions(chooses))
    assert chooses.evaluation_options == ("greedy",)
    rows = np.zeros((50, chooses.trial_input.size), np.float32)
    np.testing.assert_array_equal(chooses.predict(rows)[0], actions(chooses))


def test_ad_warns_where_its_memory_does_not_slide_along():
    tasks = strolls()
    sliding = AD(tasks, seed=0, policy_kwargs=TINY)
    assert sliding.network.actor.context == 3 * 8
    assert sliding.evaluation_warning(9) is None
    recurrent = AD(tasks, seed=0, policy_kwargs={"hidden_size": 8, "memory": "gru"})
    assert recurrent.evaluation_warning(3) is None
    assert "windows of 3 episodes and is evaluated on 9" in recurrent.evaluation_warning(9)


# Learning.


# Each chest is opened once at most until the right one is found.
BEST = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_ad_learns_in_its_context_as_its_source_does(openings):
    network = {"hidden_size": 16, "memory_kwargs": {"num_layers": 1, "num_heads": 2}}
    options = {"policy_kwargs": network, "learning_rate": 0.02, "batch_size": 32}
    agent = AD(CHESTS, seed=0, validation_share=0.0, **options).learn(openings, 300)
    returns = evaluate(agent, CHESTS, num_tasks=400).returns.mean(axis=0)
    # Windows of one episode, which hold nothing of the past: 0.25 in each.
    np.testing.assert_allclose(returns, BEST, atol=0.2)


def test_dpt_finds_out_and_remembers(chests):
    network = {"hidden_size": 16, "num_layers": 2, "num_heads": 2}
    options = {"policy_kwargs": network, "learning_rate": 0.01, "batch_size": 32}
    agent = DPT(CHESTS, seed=0, validation_share=0.0, **options).learn(chests, 150)
    returns = evaluate(agent, CHESTS, num_tasks=400).returns.mean(axis=0)
    # A context of one transition: 0.25, then at most 0.5.
    np.testing.assert_allclose(returns, BEST, atol=0.2)


# Training.


def tensors(agent):
    return {name: tensor.clone() for name, tensor in agent._state()[0].items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", [AD, DPT])
def test_training_that_is_saved_goes_on_in_the_same_bits(kind, chests, tmp_path, monkeypatch):
    monkeypatch.setattr(kind, "steps_per_iteration", 5)
    network = TINY if kind is AD else TINY_DPT
    options = {"policy_kwargs": network, "anneal": False, "batch_size": 8, "patience": 100}
    options["validation_share"] = 0.25

    def new():
        return kind(CHESTS, seed=0, **options)

    monkeypatch.setattr(kind, "_return_to_best", lambda self: None)  # at the end of either part
    whole = new().learn(chests, 20)
    first = new().learn(chests, 10)
    first.save(tmp_path / "agent")
    resumed = kind.load(tmp_path / "agent", CHESTS).learn(chests, 10, reset_num_timesteps=False)
    assert same(tensors(whole), tensors(resumed))
    assert not same(tensors(whole), tensors(first))


def test_training_stops_when_other_tasks_gain_no_more_and_returns_to_the_best(
    chests, tmp_path, monkeypatch
):
    monkeypatch.setattr(AD, "steps_per_iteration", 5)
    options = {"policy_kwargs": TINY, "validation_share": 0.25, "batch_size": 16}
    agent = AD(CHESTS, seed=0, patience=3, learning_rate=0.03, **options)
    states, losses = [], []
    validate, loss = AD._validate, AD.loss

    def measured(self, batch, generator):
        value, more = loss(self, batch, generator)
        losses[-1].append(value.item() * len(batch.mask))
        return value, more

    def watched(self, windows):
        assert set(histories_of(windows)) == held_back
        states.append({n: t.clone() for n, t in self.network.state_dict().items()})
        losses.append([])
        with monkeypatch.context() as patch:
            patch.setattr(AD, "loss", measured)
            validate(self, windows)

    def histories_of(windows):
        return windows.ids.tolist()

    held_back = set(chests.split(0.25, 0)[1].tolist())
    monkeypatch.setattr(AD, "_validate", watched)
    agent.learn(chests, 10_000)
    sums = [sum(each) for each in losses]
    best = int(np.argmin(sums))
    # The chest of the held-back task is never opened in training: it is soon thought to be empty.
    assert best < len(sums) - 1
    assert len(sums) == best + 4
    assert agent.num_gradient_steps == 5 * len(sums)
    assert same(states[best], dict(agent.network.state_dict()))
    assert not same(states[-1], states[best])
    agent.save(tmp_path / "agent")
    again = AD.load(tmp_path / "agent", CHESTS)
    again.learn(chests, 100, reset_num_timesteps=False)  # it has converged
    assert again.num_gradient_steps == agent.num_gradient_steps
    with pytest.raises(
        ValueError, match=r"validation_share=0\.1 of these tasks is less than one t"
    ):
        AD(CHESTS, seed=0, patience=3).learn(chests, 1)


def test_the_step_size_warms_up_and_falls_to_zero(chests):
    agent = AD(CHESTS, seed=0, policy_kwargs=TINY, warmup_steps=10, learning_rate=0.5)
    agent._total_timesteps = 100
    rates = []
    for agent.num_timesteps in range(101):
        rates.append(agent._schedule())
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert np.argmax(rates) == 10


def test_the_seed_of_contexts_is_that_of_the_gradient_step(chests):
    agent = DPT(CHESTS, seed=4, policy_kwargs=TINY_DPT)
    agent.num_timesteps = 7
    expected = torch.Generator().manual_seed(stream_seed(4, "contexts", 7))
    assert agent.generator_for("contexts").initial_seed() == expected.initial_seed()
