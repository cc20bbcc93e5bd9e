"""MAML: its data, its promises, and that it learns to learn."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from saved_agents import assert_same, everything
from stable_baselines3.common.logger import Logger
from torch.distributions import kl_divergence
from toys import aim, strolls
from walk import TINY, collected, make, walk

from metarl import Transition, envs, rollout
from metarl.agents import AGENTS, MAML
from metarl.agents.common.trust_region import flatten
from metarl.agents.maml.outer import MetaProblem
from metarl.agents.presets import find_preset
from metarl.envs.bandits import bandit
from metarl.envs.navigation import navigation_2d


def test_advantages_are_standardised_by_the_deviation_for_each_task():
    """Dividing by the variance would leave a deviation of 1/std: far from 1 here."""
    batches = collected(make(episodes_per_adaptation=20))
    for batch in batches:
        assert (batch.advantages * (1 - batch.mask)).abs().max() == 0.0
        count = batch.mask.sum(1)
        mean = batch.advantages.sum(1) / count
        std = (batch.advantages.square().sum(1) / count).sqrt()
        assert mean == pytest.approx(np.zeros(3), abs=1e-5)
        assert std == pytest.approx(np.ones(3), abs=1e-4)


@pytest.mark.parametrize("discrete", [False, True])
def test_equal_data_per_task_with_unequal_lengths(discrete):
    agent = make(walk(discrete), inner_steps=2)
    batches = collected(agent)
    lengths = np.ceil(agent.get_env().tasks.columns["length"][::4])
    assert len(set(lengths)) > 1
    for batch in batches:
        # Four whole episodes of each task, whatever their lengths; the rest is padding.
        assert batch.mask.sum(1).tolist() == (4 * lengths).tolist()
        assert batch.mask.shape[1] == 4 * lengths.max()
        times = (batch.observations[..., 0] * 10.0).round()
        for task, length in enumerate(lengths):
            seen = times[task][batch.mask[task].bool()].sort().values
            assert seen.tolist() == sorted([*range(int(length))] * 4)
    assert agent.num_timesteps == 3 * 4 * lengths.sum()


def test_each_round_is_acted_with_the_parameters_adapted_on_the_last():
    agent = make(inner_steps=2, inner_lr=0.5, halve_inner_lr=True)  # halved at test only
    batches = collected(agent)
    for rounds, batch in enumerate(batches):
        adapted = agent.inner.adapt(batches[:rounds], 3, differentiable=False)
        with torch.no_grad():
            distribution = agent.policy(batch.observations, adapted)
        expected = distribution.log_prob(batch.actions)
        assert torch.allclose(expected * batch.mask, batch.log_probs * batch.mask, atol=1e-5)
        # Summed over action dimensions, never averaged; and nothing of sampling is in a graph.
        assert batch.log_probs.shape == batch.mask.shape
        assert not batch.log_probs.requires_grad
    unadapted = agent.policy(batches[1].observations, agent.policy.stacked(3))
    apart = unadapted.log_prob(batches[1].actions) - batches[1].log_probs
    assert (apart * batches[1].mask).abs().max() > 0.01


def test_log_probabilities_are_summed_over_action_dimensions():
    agent = make(navigation_2d(horizon=3))
    (batch, _) = collected(agent)
    outputs = agent.policy(batch.observations, agent.policy.stacked(3))
    normal = torch.distributions.Normal(outputs.mean, outputs.stddev)
    summed = normal.log_prob(batch.actions).sum(-1)
    assert torch.allclose(batch.log_probs, summed, atol=1e-5)


def test_log_std_is_clamped_alike_everywhere():
    agent = make(policy_kwargs={**TINY, "log_std_init": 9.0})
    batches = collected(agent)
    with torch.no_grad():
        stacked = agent.policy.stacked(3)
        distribution = agent.policy(batches[0].observations, stacked)
        clamped = {**stacked, "log_std": torch.full((3, 1), 2.0)}
        same = agent.policy(batches[0].observations, clamped)
    assert torch.equal(distribution.stddev, same.stddev)
    assert kl_divergence(distribution, same).abs().max() == 0.0
    assert torch.allclose(distribution.log_prob(batches[0].actions), batches[0].log_probs)


def test_rounds_wait_for_the_slowest_lane_and_idle_lanes_do_not_step():
    tasks = walk()
    env = tasks.make_vec(6)
    env.set_tasks(tasks.sample("train", 3, 0).repeat(2))
    agent = make(tasks, episodes_per_adaptation=2)
    adaptation = agent.adaptation(3, seed=0)
    steps = []

    def write_down(transition):
        steps.append((adaptation.num_inner_steps, transition.active.copy()))
        return True

    observations, _ = env.reset(seed=0)
    played = rollout(env, observations, adaptation, 3, write_down)
    lengths = np.ceil(env.tasks.columns["length"])
    assert played.lengths.tolist() == np.repeat(lengths[:, None], 3, axis=1).tolist()
    # In round r every lane acts with the parameters after r inner steps.
    for rounds in range(3):
        active = np.stack([lanes for taken, lanes in steps if taken == rounds])
        assert active.sum(axis=0).tolist() == lengths.tolist()
    # All environments are left at the start of an episode.
    assert env._time.tolist() == [0.0] * 6


def test_any_number_of_inner_steps_and_the_halved_rate():
    for halve in (False, True):
        agent = make(halve_inner_lr=halve, inner_lr=0.3)
        rates = []

        def spy(*args, rate=agent.inner.rate, rates=rates):
            rates.append(rate(*args))
            return rates[-1]

        agent.inner.rate = spy
        env = agent.tasks.make_vec(8)
        env.set_tasks(agent.tasks.sample("held_out", 2, 0).repeat(4))
        before = flatten(agent.inner.theta()).clone()
        rollout(env, env.reset(seed=0)[0], agent.adaptation(2, seed=0), 4)
        assert rates[:: len(rates) // 3] == ([0.3, 0.15, 0.15] if halve else [0.3] * 3)
        assert torch.equal(before, flatten(agent.inner.theta()))


OPTIONS = [
    {},
    {"inner_steps": 0},
    {"inner_steps": 2, "learn_inner_lr": "per_step"},
    {"learn_inner_lr": "per_parameter", "adapt_only_last_layer": True},
    {"first_order": True, "exploration_coef": 1.0},
    {"inner_objective": "ratio", "outer": "ppo"},
    {"outer": "reptile", "learning_rate": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_resumed_training_ends_in_the_same_bits(options, tmp_path):
    whole = make(walk(discrete=True), **options)
    whole.learn(250)
    # Long enough that the line search does not reject every step.
    whole.learn(500, reset_num_timesteps=False)
    assert whole.iteration >= 3
    killed = make(walk(discrete=True), **options)
    killed.learn(250)
    killed.save(tmp_path / "agent")
    resumed = MAML.load(tmp_path / "agent", walk(discrete=True), device="cpu")
    resumed.set_logger(Logger(None, []))
    assert resumed.hyperparameters.keys() == killed.hyperparameters.keys()
    resumed.learn(500, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps
    assert torch.equal(flatten(whole.inner.theta()), flatten(resumed.inner.theta()))
    assert not torch.equal(flatten(whole.inner.theta()), flatten(killed.inner.theta()))


def test_predict_before_and_after_adaptation():
    agent = make(walk(discrete=True, length=9.0), inner_lr=5.0, episodes_per_adaptation=20)
    single, state = agent.predict(np.array([0.0, 1.0], dtype=np.float32))
    assert state is None
    assert agent.action_space.contains(single.item())
    many, _ = agent.predict(np.zeros((5, 2), dtype=np.float32), deterministic=True)
    assert many.shape == (5,)
    with pytest.raises(ValueError, match=r"observations of shape \(2,\)"):
        agent.predict(np.zeros(3, dtype=np.float32))
    env = agent.tasks.make_vec(40)
    env.set_tasks(agent.tasks.sample("held_out", 2, 1).repeat(20))
    adaptation = agent.adaptation(2, seed=0)
    rollout(env, env.reset(seed=0)[0], adaptation, 1)
    observation = np.array([0.1, 1.0], dtype=np.float32)
    for task in range(2):
        action, _ = adaptation.policy(task).predict(observation, deterministic=True)
        direction = env.tasks.columns["direction"][20 * task]
        assert action == np.sign(direction)  # one long step settles it


def test_what_is_logged():
    agent = make(inner_steps=2)
    agent.learn(1, log_interval=10)
    logged = set(agent.logger.name_to_value)
    assert {f"rollout/return_after_{i}_steps" for i in range(3)} <= logged
    assert {"train/kl", "train/line_search_tries", "train/inner_grad_norm_2"} <= logged
    assert agent.last_rollout.returns.shape == (12, 3)


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_an_iteration_keeps_to_the_trust_region(outer):
    """Five steps of Adam, 0.1 in every parameter each, end far outside if nothing cuts them."""
    options = {"meta_batch_size": 10, "episodes_per_adaptation": 10, "fisher_stride": 1}
    agent = make(outer=outer, learning_rate=0.1, max_kl=0.01, seed=1, **options)
    before = flatten(agent.inner.theta()).detach()
    agent.learn(1, log_interval=10)
    logged = agent.logger.name_to_value
    assert 0.0 < logged["train/kl"] <= 0.01
    assert logged["train/loss_after"] < logged["train/loss_before"]
    moved = flatten(agent.inner.theta()).detach()
    assert not torch.equal(moved, before)
    assert logged["train/line_search_tries"] > 1


def test_a_rejected_step_leaves_adam_as_it_was():
    agent = make(outer="ppo", learning_rate=0.1, inner_objective="ratio", max_kl=1e-30, seed=1)
    agent.learn(1)  # nothing moves within such a radius
    assert not agent.optimizers["optimizer"].state_dict()["state"]
    accepting = make(outer="ppo", learning_rate=0.1, inner_objective="ratio", max_kl=0.01, seed=1)
    accepting.learn(1)
    optimizer = accepting.optimizers["optimizer"]
    accepted = copy.deepcopy(optimizer.state_dict()["state"])
    assert accepted[0]["step"] == 5
    accepting.config = replace(accepting.config, max_kl=1e-30)
    accepting.learn(1, reset_num_timesteps=False)
    for slot, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(value, accepted[slot][name])


def test_output_gain_scales_the_first_actions():
    plain, small = (make(policy_kwargs={**TINY, "output_gain": gain}) for gain in (1.0, 0.1))
    seen = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0))
    means = [agent.policy(seen, agent.policy.stacked(3)).mean for agent in (plain, small)]
    assert torch.allclose(0.1 * means[0], means[1], atol=1e-6)


def test_bad_input():
    for options, message in (
        ({"meta_batch_size": 0}, "meta_batch_size must be at least 1"),
        ({"inner_lr": 0.0}, "inner_lr must be above 0"),
        ({"outer": "trpi"}, "unknown outer 'trpi'; did you mean 'trpo'"),
        ({"inner_steps": 0, "learn_inner_lr": "per_step"}, "needs an outer gradient"),
        ({"policy_kwargs": {"activation": "gelu"}}, "unknown activation 'gelu'"),
        # Weights that are standardised over one task are nan or zero.
        (
            {"exploration_coef": 1.0, "meta_batch_size": 1},
            "meta_batch_size must be at least 2, got 1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)
    with pytest.raises(ValueError, match="needs sampled actions"):
        make().adaptation(2, deterministic=True)


def test_one_pull_bandits_are_understood():
    agent = make(bandit(10, 3), episodes_per_adaptation=10)
    agent.learn(100)
    assert agent.num_timesteps == 120  # 2 iterations of 3 tasks, 10 pulls, 2 rounds


def returns_by_round(agent, num_tasks=20, rounds=3):
    lanes = agent.episodes_per_adaptation
    env = agent.tasks.make_vec(num_tasks * lanes)
    env.set_tasks(agent.tasks.sample("held_out", num_tasks, 7).repeat(lanes))
    played = rollout(env, env.reset(seed=7)[0], agent.adaptation(num_tasks, seed=7), rounds)
    return played.returns.mean(axis=0)


def test_a_reptile_step_is_adam_on_the_mean_displacement():
    agent = make(outer="reptile", learning_rate=0.03, adapt_only_last_layer=True)
    before = [parameter.detach().clone() for parameter in agent.policy.parameters()]
    batches = collected(agent)
    adapted = agent.inner.adapt(batches, 3, differentiable=False)
    agent.outer_update(MetaProblem(agent.inner, batches[:-1], batches[-1]))
    moves = {}
    for (name, parameter), old in zip(agent.policy.named_parameters(), before):
        displacement = sum(adapted[name][task] - old for task in range(3)) / 3
        # Adam's first step has its full length, whatever the size of the gradient.
        expected = 0.03 * displacement / (displacement.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach() - old, expected, atol=1e-6, rtol=1e-3)
        moves[name] = (parameter != old).any().item()
    assert [name for name, moved in moves.items() if moved] == list(agent.policy.last_layer)


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_it_learns_to_learn(outer):
    """Walk in a hidden direction for 9 steps: |direction| averages 0.5, so 4.5 is the optimum.

    Whatever does not adapt gets 0 on average, in every round. Before training, one inner step
    earns 1.4; training must find parameters from which it earns most of the optimum.
    """
    tasks = walk(length=9.0)
    extra = {"outer": "ppo", "inner_objective": "ratio", "learning_rate": 1e-2}
    agent = make(
        tasks,
        meta_batch_size=20,
        episodes_per_adaptation=10,
        inner_lr=0.1,
        max_kl=0.05,
        policy_kwargs={"hidden_sizes": (16,), "log_std_init": -0.5},
        **(extra if outer == "ppo" else {}),
    )
    untrained = returns_by_round(agent)
    agent.learn(20 * 10 * 9 * 2 * 12)
    trained = returns_by_round(agent)
    assert abs(trained[0]) < 1.0
    assert untrained[1] < 1.7
    assert trained[1] > 3.5
    assert trained[2] > 3.5


def test_reptile_learns_to_learn():
    """The same walk, with longer inner steps: before training, one of them earns 3.1 of 4.5."""
    agent = make(
        walk(length=9.0),
        outer="reptile",
        learning_rate=1e-2,
        inner_lr=0.3,
        meta_batch_size=20,
        episodes_per_adaptation=10,
        policy_kwargs={"hidden_sizes": (16,), "log_std_init": -0.5},
    )
    untrained = returns_by_round(agent)
    agent.learn(20 * 10 * 9 * 2 * 12)
    trained = returns_by_round(agent)
    assert abs(trained[0]) < 1.0
    assert untrained[1] < 3.3
    assert trained[1] > 3.9


# One environment, K episodes one after another.


def test_episodes_one_after_another_make_the_batch_of_episodes_side_by_side():
    rng = np.random.default_rng(0)
    lengths = np.array([2, 4, 3])  # three episodes of one task, whatever the actions
    seen, rewards = rng.normal(size=(3, 5, 2)).astype(np.float32), rng.normal(size=(3, 4))
    agent = MAML(strolls(), seed=0, meta_batch_size=1, episodes_per_adaptation=3)
    agent.policy.sample = lambda outputs, parameters, generator: outputs + 0.5

    def play(adaptation, episodes):
        for t in range(lengths[episodes].max()):
            adaptation.act(seen[episodes, t])
            ended = t == lengths[episodes] - 1
            adaptation.observe(
                Transition(
                    seen[episodes, t], np.zeros(len(episodes)), rewards[episodes, t], ended,
                    np.zeros_like(ended), seen[episodes, t + 1], t < lengths[episodes],
                )
            )  # fmt: skip

    beside, after = agent.adaptation(1), agent.adaptation(1, sequential=True)
    play(beside, np.arange(3))
    for episode in range(3):
        play(after, np.array([episode]))
        assert after.num_inner_steps == 0
    for adaptation in (beside, after):
        adaptation.policy()  # makes the inner step
        assert adaptation.num_inner_steps == 1
    for name, tensor in beside.parameters.items():
        assert not torch.equal(tensor[0], agent.policy.get_parameter(name))
        torch.testing.assert_close(after.parameters[name], tensor)


def test_a_single_environment_is_adapted_to():
    # Whoever does not adapt earns 0 on average; a step on 20 episodes finds where to aim.
    agent = MAML(aim(), seed=0, inner_lr=3.0, policy_kwargs={"hidden_sizes": (8,)})
    env = aim().make_vec(1)
    env.set_tasks(aim().sample("train", 1, 0))
    observations, _ = env.reset(seed=0)
    adaptation = agent.adaptation(1, seed=1, sequential=True)
    returns = rollout(env, observations, adaptation, 80).returns[0]
    assert adaptation.num_inner_steps == 3
    assert returns[60:].mean() > returns[:20].mean() + 0.3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("promp", {"inner_objective": "ratio", "outer": "ppo"}),
        ("e-maml", {"exploration_coef": 1.0}),
        ("anil", {"adapt_only_last_layer": True}),
        ("fomaml", {"first_order": True}),
        ("reptile", {"outer": "reptile", "learning_rate": 1e-2}),
    ],
)
def test_a_relative_is_maml_with_its_options(name, options):
    tasks, small = navigation_2d(horizon=5), {"meta_batch_size": 3, "episodes_per_adaptation": 4}
    relative = AGENTS[name](tasks, seed=0, **small).learn(1)
    same = MAML(tasks, seed=0, **small, **options).learn(1)
    other = MAML(tasks, seed=0, **small).learn(1)
    assert_same(everything(relative), everything(same))
    with pytest.raises(AssertionError):
        assert_same(everything(relative), everything(other))
    preset = find_preset(name, "gridnavi").hyperparameters
    assert not options.keys() & preset.keys()
    assert AGENTS[name].from_preset(envs.make("gridnavi"), seed=0).config.to_json().items() >= (
        options.items()
    )
