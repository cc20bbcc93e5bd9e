"""RL²: what the agent sees, what it is trained on, and how its updates are made."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import risk, strolls
from witness import NORMAL, SMALL, SPACES, Witness

from metarl import evaluate, rollout
from metarl.agents import RL2
from metarl.agents.common.memory.recurrent import GRU
from metarl.agents.common.ppo import TrialPPOConfig, ppo_update, trial_values, wall_clock_discounts

# What the agent sees.


@pytest.mark.parametrize("space", SPACES)
def test_rows_tell_of_the_last_transition_and_of_episode_ends(space):
    witness = Witness(space).learn()
    (batch,) = witness.batches
    inputs, mask = batch.rows.numpy(), batch.mask.numpy()
    ends = 0
    for n in range(6):
        last = None
        for t, step in enumerate(witness.trials[0]):
            observation, action, reward, end, active = (part[n] for part in step)
            assert mask[t, n] == active
            if not active:
                break
            expected = np.zeros(len(inputs[t, n]) - 2)
            if last is not None:
                last_action, last_reward, last_end = last
                # Across an episode's end too, the action, the reward and the flag arrive.
                if space == "discrete":
                    expected[last_action - 2] = 1.0
                    expected[3:] = last_reward, last_end
                else:
                    expected[:] = [*last_action, last_reward, last_end]
                ends += bool(last_end)
            np.testing.assert_allclose(inputs[t, n, :2], observation)
            np.testing.assert_allclose(inputs[t, n, 2:], expected, rtol=1e-6)
            last = action, reward, end
    assert ends == 6 * 2  # of three episodes in each trial two are followed by another


def test_without_a_discount_the_critic_predicts_the_next_reward():
    witness = Witness(gamma=0.0).learn()
    (batch,), (trials,) = witness.batches, witness.recorded
    values = trial_values(witness.agent.network, batch.rows, batch.pixels, batch.task)
    assert (batch.value_scale == 1).all()
    assert torch.allclose(batch.targets, trials.rewards * batch.mask)
    assert values.shape == trials.rewards.shape


def test_every_trial_has_one_task_from_the_train_split():
    witness = Witness(num_iterations=3).learn()
    given = witness.env.tasks_of_trials[:3]
    tasks = [task for batch in given for task in batch]
    assert len(set(tasks)) == 3 * 6  # set once for an iteration, and never the same twice
    held_out = set(witness.agent.tasks.sample("held_out", 100, witness.agent.seed))
    assert held_out.isdisjoint(tasks)


def test_the_encoded_task_is_kept_with_the_trial_but_not_shown_to_the_network():
    witness = Witness(num_iterations=2).learn()
    parameters = witness.agent.tasks.parameters
    for trials, batch, tasks in zip(
        witness.recorded, witness.batches, witness.env.tasks_of_trials, strict=False
    ):
        expected = [
            [
                2 * (task[name] - distribution.low) / (distribution.high - distribution.low) - 1
                for name, distribution in parameters.items()
            ]
            for task in tasks
        ]
        np.testing.assert_allclose(trials.task, expected, atol=1e-6)
        assert len(np.unique(trials.task, axis=0)) == 6
        assert batch.rows.shape[-1] == witness.agent.trial_input.size


def test_episodes_of_the_data_are_of_unequal_lengths():
    # Else the tests of this file prove less than they say.
    witness = Witness().learn()
    active = witness.steps(0, 4)
    assert len(set(active.sum(0))) > 3
    lengths = witness.agent.last_rollout.lengths
    assert lengths.min() == 1
    assert lengths.max() == 8
    assert lengths.sum() == active.sum() == witness.batches[0].mask.sum()


# What it is trained on.


def trial_advantages(rewards, values, gamma, gae_lambda):
    """The definition, for one whole trial: no cut at episode ends, nothing after the last."""
    v = [*values, 0.0]
    deltas = [rewards[k] + gamma * v[k + 1] - v[k] for k in range(len(rewards))]
    decay = gamma * gae_lambda
    return [
        sum(decay ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))
    ]


def test_returns_run_across_episode_ends_and_stop_at_the_trials_end():
    witness = Witness(gamma=0.95, gae_lambda=0.9).learn()
    (batch,) = witness.batches
    values = witness.values[0].double().numpy()
    rewards, active = witness.steps(0, 2), witness.steps(0, 4)
    expected = np.zeros(rewards.shape)
    for n in range(6):
        length = active[:, n].sum()
        expected[:length, n] = trial_advantages(rewards[:length, n], values[:length, n], 0.95, 0.9)
        # The end of the trial is terminal.
        assert expected[length - 1, n] == rewards[length - 1, n] - values[length - 1, n]
    real = batch.mask.bool().numpy()
    np.testing.assert_allclose(batch.targets.numpy()[real], (expected + values)[real], atol=1e-4)
    standard = (expected[real] - expected[real].mean()) / expected[real].std()
    np.testing.assert_allclose(batch.advantages.numpy()[real], standard, atol=1e-4)


def test_minibatches_are_whole_trials():
    witness = Witness(trials_per_iteration=10, trials_per_minibatch=4, n_epochs=3)
    batches = []
    witness.agent.network.register_forward_pre_hook(
        lambda _, given: batches.append(given[0]) if len(given[0]) > 1 else None
    )
    inputs = witness.learn().batches[0].rows
    assert [batch.shape[:2] for batch in batches] == [(len(inputs), n) for n in (4, 4, 2)] * 3
    orders = []
    for epoch in range(3):
        columns = torch.cat(batches[3 * epoch : 3 * epoch + 3], dim=1)
        order = [(inputs[0] == column).all(-1).nonzero().item() for column in columns[0]]
        assert sorted(order) == list(range(10))
        torch.testing.assert_close(columns, inputs[:, order])
        orders.append(order)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("num_threads", [1, 2])
def test_pieces_of_a_minibatch_in_threads_learn_what_the_whole_learns(num_threads, monkeypatch):
    # A piece that weighed as much as another of more steps would be off by percents.
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        parameters = []
        for steps in (6400, 40):
            monkeypatch.setattr(GRU, "steps_per_piece", steps)
            parameters.append(list(Witness().learn().agent.network.parameters()))
        assert torch.get_num_threads() == num_threads  # the workers' own count stays theirs
    finally:
        torch.set_num_threads(before)
    for whole, pieces in zip(*parameters):
        torch.testing.assert_close(whole, pieces, atol=2e-5, rtol=1e-4)


def test_the_critic_predicts_the_return_of_each_episode_left():
    # A critic of the whole trial would be recorded with a constant here.
    witness = Witness().learn()
    (trials,), (batch,) = witness.recorded, witness.batches
    left = batch.value_scale
    ends = trials.rows[..., witness.agent.trial_input.episode_end].squeeze(-1)
    real = batch.mask.bool()
    expected = witness.agent.episodes_per_trial - ends.cumsum(0)
    assert torch.equal(left[real], expected[real])
    assert left[real].min() == 1
    assert (left[0] == witness.agent.episodes_per_trial).all()


def test_an_infinite_horizon_critic_leaves_out_what_the_end_of_the_trial_takes_away():
    gamma = 0.9
    witness = Witness(gamma=gamma, infinite_horizon_critic=True).learn()
    (trials,), (batch,) = witness.recorded, witness.batches
    agent, horizon = witness.agent, witness.env.horizon
    ends = trials.rows[..., agent.trial_input.episode_end].squeeze(-1)
    for ended, scale, length in zip(ends.T, batch.value_scale.T, batch.mask.sum(0).int()):
        left, elapsed = agent.episodes_per_trial, 0
        for t in range(length):
            if ended[t]:  # the row after an episode's last step
                left, elapsed = left - 1, 0
            # What a reward of 1 - gamma in every step that there may still be is worth.
            worth = sum((1 - gamma) * gamma**k for k in range(left * horizon - elapsed))
            assert abs(float(scale[t]) - worth) < 1e-6
            elapsed += 1
    assert batch.value_scale[0].min() > batch.value_scale[batch.mask.bool()].min()


def test_an_infinite_horizon_critic_is_at_rest_in_the_padding():
    # Counted on there, 1 - gamma ** -10 would overflow, and the whole batch with it.
    witness = Witness(gamma=1e-5, infinite_horizon_critic=True, wall_clock_discount=True).learn()
    (trials,), (batch,) = witness.recorded, witness.batches
    padding = batch.mask == 0
    assert padding.sum(0).max() >= 10
    assert (trials.steps_left[padding] == 0).all()
    assert (trials.episodes_left[padding] == 0).all()
    assert batch.value_scale.min() == 0.0
    for part in (batch.advantages, batch.targets, batch.value_scale):
        assert part.isfinite().all()
    assert all(p.isfinite().all() for p in witness.agent.network.parameters())


def test_without_a_discount_an_infinite_horizon_critic_changes_nothing():
    plain, infinite = (
        Witness(gamma=1.0, infinite_horizon_critic=value).learn() for value in (False, True)
    )
    assert torch.equal(plain.batches[0].value_scale, infinite.batches[0].value_scale)
    assert plain.batches[0].value_scale.max() == plain.agent.episodes_per_trial


def test_by_the_clock_an_early_end_brings_the_next_episode_no_closer():
    gamma = 0.9
    witness = Witness().learn()
    (trials,), (batch,) = witness.recorded, witness.batches
    horizon = witness.env.horizon
    ends = trials.rows[..., witness.agent.trial_input.episode_end].squeeze(-1)
    discounts = wall_clock_discounts(trials, gamma)
    early = 0
    for ended, discount, length in zip(ends.T, discounts.T, batch.mask.sum(0).int()):
        begun = clock = 0  # when this episode began, and what time it is, by the clock
        for t in range(length - 1):
            following = clock + 1
            if ended[t + 1]:
                early += following < begun + horizon
                following = begun = begun + horizon
            assert float(discount[t]) == pytest.approx(gamma ** (following - clock))
            clock = following
    assert early > 3
    # What is learned from follows it.
    by_wall_clock = Witness(gamma=gamma, wall_clock_discount=True).learn().batches[0]
    plain = Witness(gamma=gamma).learn().batches[0]
    assert not torch.equal(by_wall_clock.advantages, plain.advantages)


def test_the_gradient_ignores_padding():
    (batch,) = Witness().learn().batches
    config = TrialPPOConfig(n_epochs=2, trials_per_minibatch=4, ent_coef=0.01)
    results = []
    for garbage in (0.0, 50.0):
        agent = RL2(strolls(), seed=3, policy_kwargs={"hidden_size": 8}, **SMALL)
        noise = garbage * (1.0 - batch.mask)
        padded = replace(
            batch,
            rows=batch.rows + noise[..., None],
            targets=batch.targets + noise,
            log_probs=batch.log_probs - 10.0 * noise,  # their ratio overflows
        )
        generator = torch.Generator().manual_seed(0)
        ppo_update(agent.network, agent.optimizer, padded, config, generator)
        results.append(agent.network.state_dict())
    for name, tensor in results[0].items():
        torch.testing.assert_close(results[1][name], tensor)


def test_normalisers_hold_the_moments_of_all_real_steps():
    witness = Witness(num_iterations=3, gamma=0.9, **NORMAL).learn()
    agent = witness.agent
    observations, rewards, returns = [], [], []
    for iteration in range(3):
        seen, earned, active = (witness.steps(iteration, part) for part in (0, 2, 4))
        running = np.zeros(6)
        for t in range(len(active)):
            running = 0.9 * running + earned[t]
            returns.append(running[active[t]])
        observations.append(seen[active])
        rewards.append(earned[active])
    for moments, rows in (
        (agent.observation_moments, np.concatenate(observations)),
        (agent.reward_moments, np.concatenate(rewards)[:, None]),
        (agent.return_moments, np.concatenate(returns)[:, None]),
    ):
        assert moments.count == len(rows)
        np.testing.assert_allclose(moments.mean.numpy(), rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(moments.var.numpy(), rows.var(0), rtol=1e-5)


def test_normalised_inputs_use_the_moments_before_the_iteration():
    witness = Witness(num_iterations=2, **NORMAL).learn()
    active = witness.steps(0, 4)
    seen, rewards = witness.steps(0, 0)[active], witness.steps(0, 2)[active]
    inputs = witness.batches[1].rows.numpy()
    present = witness.steps(1, 0)
    real = witness.steps(1, 4)
    expected = (present - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(inputs[..., :2][real], expected[real], rtol=1e-3, atol=1e-4)
    last = witness.steps(1, 2)[:-1] / rewards.std()
    np.testing.assert_allclose(inputs[1:, :, 4][real[1:]], last[real[1:]], rtol=1e-3)


def test_evaluation_leaves_the_agent_as_it_was():
    witness = Witness(num_iterations=2, **NORMAL).learn()
    agent, family = witness.agent, strolls()
    before = {key: value.clone() for key, value in agent.observation_moments.state_dict().items()}
    before |= {key: value.clone() for key, value in agent.network.state_dict().items()}
    evaluate(agent, family, num_tasks=5)
    agent.predict(np.ones(agent.trial_input.size))
    after = agent.observation_moments.state_dict() | agent.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_adaptations_do_not_share_what_they_learn():
    agent = Witness().agent
    family = strolls()
    alone = evaluate(agent, family, num_tasks=4, seed=5).returns
    env = family.make_vec(4)
    observations, _ = env.reset(seed=0)
    rollout(env, observations, agent.adaptation(4, seed=9), 2)
    np.testing.assert_array_equal(evaluate(agent, family, num_tasks=4, seed=5).returns, alone)


# The schedule.


def test_trials_grow_and_the_step_size_falls():
    family = risk(16)
    sizes, rates = [], []
    agent = RL2(
        family,
        trials_per_iteration=4,
        trials_per_minibatch=4,
        first_episodes_per_trial=2,
        anneal=True,
        learning_rate=0.5e-3,
        n_epochs=1,
        policy_kwargs={"hidden_size": 4},
        seed=0,
    )

    def note(locals_, globals_):
        if agent.last_rollout is not None and len(sizes) < agent.iteration:
            sizes.append(agent.last_rollout.returns.shape[1])
            rates.append(agent.optimizer.param_groups[0]["lr"])
        return True

    agent.learn(2000, callback=note)
    assert sizes[0] == 2
    assert sizes == sorted(sizes)
    assert set(sizes) >= {2, 3, 4, 8, 16}
    assert sizes[-1] == 16
    assert sum(4 * size for size in sizes[: sizes.index(16)]) == pytest.approx(1000, abs=70)
    assert rates[0] == 0.5e-3
    done = np.cumsum([0, *sizes[:-1]]) * 4
    np.testing.assert_allclose(rates, 0.5e-3 * (1 - done / 2000))


def test_epochs_end_when_the_policy_has_moved_enough():
    def steps(target_kl):
        witness = Witness(n_epochs=5, learning_rate=0.05, target_kl=target_kl).learn()
        return witness.agent.optimizer.state_dict()["state"][0]["step"]

    assert steps(None) == 5 * 2
    assert steps(1e-9) == 2


def test_gradient_is_scaled_down_to_its_largest_norm():
    witness = Witness(n_epochs=1, trials_per_minibatch=6, max_grad_norm=1e-3).learn()
    state = witness.agent.optimizer.state_dict()["state"].values()
    # Adam's first moment after one step is a tenth of the gradient.
    norm = math.sqrt(sum(float((10 * slot["exp_avg"]).square().sum()) for slot in state))
    assert norm == pytest.approx(1e-3, rel=1e-3)
