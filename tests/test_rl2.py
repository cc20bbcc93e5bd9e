"""RL²: what the agent sees, what it is trained on, and that it learns to explore."""

import itertools
import math
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from toys import BOX, StrollVectorEnv, risk, spaces, strolls

import metarl.agents.rl2.agent
from metarl import TaskDistribution, envs, evaluate, rollout
from metarl.agents import RL2
from metarl.agents.rl2.memory import GRU, Episodic
from metarl.agents.rl2.update import PPO, make_batch, ppo_update, trial_values

SPACES = {"box": BOX, "discrete": spaces.Discrete(3, start=2)}
NETWORKS = {
    "gru": {},
    "lstm": {"memory": "lstm"},
    "separate": {"separate_critic": True, "encoder": [5]},
    "lstm-separate": {"memory": "lstm", "separate_critic": True},
    "episodic": {"memory": "episodic"},
    "episodic-pairs": {"memory": "episodic", "recall_encoder": [5]},
}
SMALL = {"trials_per_iteration": 6, "trials_per_minibatch": 4, "n_epochs": 2}
NORMAL = {"normalize_observation": True, "normalize_reward": True}


class Spy(StrollVectorEnv):
    """Writes down all that happens in it."""

    def set_tasks(self, tasks):
        super().set_tasks(tasks)
        self.trials = [*getattr(self, "trials", []), []]
        self.tasks_of_trials = [*getattr(self, "tasks_of_trials", []), list(tasks)]

    def reset(self, **kwargs):
        self._present, info = super().reset(**kwargs)
        return self._present, info

    def step(self, actions, active=None):
        result = super().step(actions, active)
        observations, rewards, terminated, truncated, _ = result
        active = np.ones(self.num_envs, bool) if active is None else active.copy()
        self.trials[-1].append(
            (self._present.copy(), actions.copy(), rewards, terminated | truncated, active)
        )
        self._present = np.where(active[:, None], observations, self._present)
        return result


class Witness:
    """An agent in training, with what its environments did and what it learned from.

    For each iteration there are the ``trials`` that the environments went through, what was
    ``recorded`` of them, the ``batches`` made of that, and the critic's ``values`` in them.
    """

    def __init__(self, space="box", policy_kwargs=None, num_iterations=1, **options):
        self.env = None
        family = strolls(SPACES[space])

        def factory(num_envs):
            self.env = Spy(num_envs, SPACES[space])
            return self.env

        family = TaskDistribution(
            "strolls", family.parameters, factory, episodes_per_trial=family.episodes_per_trial
        )
        network = {"hidden_size": 8, **(policy_kwargs or {})}
        self.agent = RL2(family, seed=3, policy_kwargs=network, **{**SMALL, **options})
        self.recorded, self.batches, self.values, self.checks = [], [], [], []
        self.num_iterations = num_iterations

    def learn(self):
        def stop(locals_, globals_):
            return self.agent.iteration < self.num_iterations

        with patch.object(metarl.agents.rl2.agent, "make_batch", self._make_batch):
            self.agent.learn(10**9, callback=stop)
        self.trials = self.env.trials[: self.num_iterations]
        return self

    def _make_batch(self, network, trials, *arguments):
        batch, explained_variance = make_batch(network, trials, *arguments)
        self.recorded.append(trials)
        self.batches.append(batch)
        self.values.append(trial_values(network, batch.rows, batch.pixels) * batch.value_scale)
        for check in self.checks:
            check(batch)
        return batch, explained_variance

    def steps(self, iteration, part):
        return np.stack([step[part] for step in self.trials[iteration]])


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
            told = np.zeros(len(inputs[t, n]) - 2)
            if last is not None:
                last_action, last_reward, last_end = last
                # Across an episode's end too, the action, the reward and the flag arrive.
                if space == "discrete":
                    told[last_action - 2] = 1.0
                    told[3:] = last_reward, last_end
                else:
                    told[:] = [*last_action, last_reward, last_end]
                ends += bool(last_end)
            np.testing.assert_allclose(inputs[t, n, :2], observation)
            np.testing.assert_allclose(inputs[t, n, 2:], told, rtol=1e-6)
            last = action, reward, end
    assert ends == 6 * 2  # of three episodes in each trial two are followed by another


@pytest.mark.parametrize("network", NETWORKS)
def test_memory_begins_at_zero_and_outlives_episodes(network):
    witness = Witness(policy_kwargs=NETWORKS[network], num_iterations=2)
    calls = []
    witness.agent.network.actor.register_forward_hook(
        lambda _, given, result: calls.append((given[0].shape, given[1].clone(), result[1].clone()))
    )
    witness.learn()
    acting = [call for call in calls if call[0][0] == 1]
    for trial in witness.trials:
        during, acting = acting[: len(trial)], acting[len(trial) :]
        assert (during[0][1] == 0).all()
        for (_, _, after), (_, before, _) in itertools.pairwise(during):
            assert torch.equal(after, before)
            assert (before != 0).any()
    learning = [call for call in calls if call[0][0] > 1]
    assert len(learning) >= 2 * 2 * 2
    assert all((memory == 0).all() for _, memory, _ in learning)


@pytest.mark.parametrize("recall_encoder", [(), (6,)])
def test_episodic_memory_recalls_what_followed_the_like(monkeypatch, recall_encoder):
    monkeypatch.setattr(Episodic, "CAPACITY", 6)
    torch.manual_seed(0)
    memory = Episodic(3, 4, 5, (), torch.Generator().manual_seed(0), recall_encoder)
    inputs = torch.randn(15, 2, 7)
    given = []
    memory.cell.register_forward_pre_hook(lambda _, args: given.append(args[0].detach()))
    memory(inputs, memory.initial_state(2))
    recalled = given[0][..., 7:]
    assert (recalled[0] == 0).all()  # at the start there is nothing to recall
    for n in range(2):
        keys = memory.key(inputs[:, n])
        keys = keys / keys.norm(dim=1, keepdim=True)
        rows = inputs[:, n, :3]
        if recall_encoder:
            first = memory.recall_encoder[0]
            rows = torch.tanh(rows @ first.weight.T + first.bias)
        values = memory.value(rows)
        for t in range(1, 15):
            weights, parts = [], []
            for s in range(max(0, t - 6), t):  # the step s, and the row that came after it
                weights.append(torch.exp(8.0 * (keys[s] @ keys[t] - 0.5)))
                parts.append(values[s + 1])
            expected = sum(w * v for w, v in zip(weights, parts)) / (1.0 + sum(weights))
            assert torch.allclose(recalled[t, n], expected, atol=1e-5)


def test_pairs_are_told_apart_only_after_a_recall_encoder():
    # In the same state two actions were taken, and one of them paid: which? The rows after them,
    # (action 0, action 1, reward), have the same mean either way.
    state = torch.ones(1, 4)
    stories = [[[1.0, 0, 1], [0, 1.0, 0]], [[1.0, 0, 0], [0, 1.0, 1]]]
    for recall_encoder, told_apart in [((), False), ((6,), True)]:
        memory = Episodic(3, 4, 5, (), torch.Generator().manual_seed(0), recall_encoder)
        with torch.no_grad():
            memory.key.weight[:, :3] = 0.0  # the state alone is compared
        given = []
        memory.cell.register_forward_pre_hook(lambda _, args, given=given: given.append(args[0]))
        for story in stories:
            rows = torch.tensor([[0.0, 0, 0], *story]).unsqueeze(1)
            inputs = torch.cat([rows, state.expand(3, 1, 4)], dim=-1)
            memory(inputs, memory.initial_state(1))
        one, other = (parts[2, 0, 7:] for parts in given)
        assert bool((one - other).abs().max() > 1e-3) == told_apart


def test_episodic_memory_goes_on_from_any_state():
    memory = Episodic(3, 4, 5, (8,), torch.Generator().manual_seed(0))
    inputs = torch.randn(9, 2, 7, generator=torch.Generator().manual_seed(1))
    whole, end = memory(inputs, memory.initial_state(2))
    state, parts = memory.initial_state(2), []
    for piece in inputs.split([1, 3, 1, 4]):
        features, state = memory(piece, state)
        parts.append(features)
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)
    assert torch.allclose(state, end, atol=1e-6)
    # A state of zeros, of any size, is the start of a trial.
    fresh, _ = memory(inputs, torch.zeros_like(end))
    assert torch.allclose(fresh, whole, atol=1e-6)


def test_without_a_discount_the_critic_predicts_the_next_reward():
    witness = Witness(gamma=0.0).learn()
    (batch,), (trials,) = witness.batches, witness.recorded
    values = trial_values(witness.agent.network, batch.rows, batch.pixels)
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


@pytest.mark.parametrize("options", [{}, NORMAL])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("network", NETWORKS)
def test_one_call_over_whole_trials_repeats_what_was_recorded(network, space, options):
    witness = Witness(space, NETWORKS[network], num_iterations=2, **options)
    seen = []

    def check(batch):
        real = batch.mask.bool()
        with torch.no_grad():
            distribution, values = witness.agent.network(batch.rows, batch.pixels)
        log_probs = distribution.log_prob(batch.actions)
        torch.testing.assert_close(log_probs[real], batch.log_probs[real], atol=1e-5, rtol=0.0)
        values = values * batch.value_scale
        expected = witness.values[-1]
        torch.testing.assert_close(values[real], expected[real], atol=1e-5, rtol=0.0)
        seen.append(len(real))

    witness.checks.append(check)
    witness.learn()
    assert len(seen) == 2  # the second iteration normalises by the moments of the first
    assert min(seen) > 10


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


def test_an_endless_critic_leaves_out_what_the_end_of_the_trial_takes_away():
    gamma = 0.9
    witness = Witness(gamma=gamma, endless_critic=True).learn()
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


def test_without_a_discount_an_endless_critic_changes_nothing():
    plain, endless = (Witness(gamma=1.0, endless_critic=value).learn() for value in (False, True))
    assert torch.equal(plain.batches[0].value_scale, endless.batches[0].value_scale)
    assert plain.batches[0].value_scale.max() == plain.agent.episodes_per_trial


def test_the_gradient_ignores_padding():
    (batch,) = Witness().learn().batches
    options = PPO(
        learning_rate=1e-3,
        n_epochs=2,
        trials_per_minibatch=4,
        clip_range=0.2,
        ent_coef=0.01,
        vf_coef=0.5,
        max_grad_norm=0.5,
        target_kl=None,
    )
    results = []
    for garbage in (0.0, 50.0):
        agent = RL2(strolls(), seed=3, policy_kwargs={"hidden_size": 8}, **SMALL)
        noise = garbage * (1.0 - batch.mask)
        padded = replace(batch, rows=batch.rows + noise[..., None], targets=batch.targets + noise)
        generator = torch.Generator().manual_seed(0)
        ppo_update(agent.network, agent.optimizer, padded, options, generator)
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


@pytest.mark.parametrize("memory", ["gru", "lstm", "episodic"])
def test_a_head_sees_the_present_input_beside_the_memory(memory):
    tasks = envs.bandit(10, 5)
    kwargs = {"hidden_size": 8, "memory": memory, "head": [16], "separate_critic": True}
    agent = RL2(tasks, seed=0, policy_kwargs=kwargs)
    network = agent._modules["network"]
    rows = torch.randn(6, 3, agent.trial_input.size)
    pixels = torch.zeros(6, 3, 0, dtype=torch.uint8)
    state, outputs = network.initial_state(3), []
    for step in rows:  # acting step by step equals whole trials
        out, state = network.act(step[None], pixels[:1], state)
        outputs.append(out[0])
    distribution, values = network(rows, pixels)
    acted = network.distribution(torch.stack(outputs))
    torch.testing.assert_close(acted.logits, distribution.logits)
    assert values.shape == (6, 3)
    # The last layer takes no memory but what the head makes of it: without a head's memory weights
    # the policy still follows the input.
    with torch.no_grad():
        network.policy_layers[0].weight[:, :8] = 0.0
        network.policy.weight.normal_()
        one, _ = network.act(rows[:1], pixels[:1], network.initial_state(3))
        other, _ = network.act(rows[1:2], pixels[:1], network.initial_state(3))
    assert (one - other).abs().max() > 0.01
