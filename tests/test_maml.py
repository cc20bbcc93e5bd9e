"""MAML: its gradients against slow and independent ones, its data, its promises, that it learns."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from torch.distributions import kl_divergence

from metarl import TaskDistribution, TaskVectorEnv, Uniform, rollout
from metarl.agents import MAML
from metarl.agents.inner_loop import Batch, task_mean
from metarl.agents.linear_baseline import RIDGE, discounted_returns, linear_baseline
from metarl.agents.trpo import conjugate_gradient, fisher_product, flatten, line_search
from metarl.envs.bandits import bandit
from metarl.envs.navigation import navigation_2d

TINY = {"hidden_sizes": (4,), "activation": "tanh"}


class WalkEnv(TaskVectorEnv):
    """A step along a line earns action times direction. Episodes last as long as the task says."""

    def __init__(self, num_envs, discrete=False):
        super().__init__(
            num_envs,
            parameters={"direction": Uniform(-1.0, 1.0), "length": Uniform(1.0, 9.0)},
            observation_space=spaces.Box(-100.0, 100.0, (2,), np.float32),
            action_space=spaces.Discrete(3, start=-1) if discrete else spaces.Box(-1.0, 1.0, (1,)),
            horizon=9,
        )

    def _set_parameters(self, columns):
        self._columns = columns
        self._time = np.zeros(self.num_envs)

    def _reset(self, ids):
        self._time[ids] = 0.0
        return self._observe(ids)

    def _observe(self, ids):
        time = self._time[ids]
        return np.stack([time / 10.0, np.ones_like(time)], axis=1).astype(np.float32)

    def _step(self, ids, actions):
        self._time[ids] += 1.0
        rewards = self._columns["direction"][ids] * actions.reshape(len(actions))
        return self._observe(ids), rewards, self._time[ids] >= self._columns["length"][ids]


def walk(discrete=False, length=None):
    return TaskDistribution(
        name="walk",
        parameters={
            "direction": Uniform(-1.0, 1.0),
            "length": Uniform(1.0, 9.0) if length is None else Uniform(length, length),
        },
        env_factory=lambda num_envs: WalkEnv(num_envs, discrete),
    )


def make(tasks=None, **options):
    defaults = {
        "meta_batch_size": 3,
        "episodes_per_adaptation": 4,
        "policy_kwargs": TINY,
        "seed": 0,
        "device": "cpu",
    }
    agent = MAML(tasks or walk(), **{**defaults, **options})
    agent.set_logger(Logger(None, []))
    return agent


def collected(agent):
    """The rounds of one iteration, and the agent as it was when they were collected."""
    seen = []
    agent._update = lambda: seen.append(agent._recorder)
    agent.learn(1)
    del agent._update
    seen[0].take_batch()
    return seen[0].batches


def doubled(agent, batches):
    """The same in double precision, for finite differences."""
    agent.policy.double()
    agent.rates.double()
    return [Batch(**{name: value.double() for name, value in vars(b).items()}) for b in batches]


def surrogate(agent, batches):
    *supports, query = batches
    adapted = agent._adapt(supports, differentiable=True)
    return agent._outer_loss(supports, query, agent.policy(query.observations, adapted))


def meta_gradient(agent, batches):
    return flatten(
        torch.autograd.grad(surrogate(agent, batches), agent._theta(), materialize_grads=True)
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inner_steps": 2},
        {"inner_steps": 0},
        {"inner_objective": "ratio"},
        {"learn_inner_lr": "per_parameter"},
        {"inner_steps": 2, "learn_inner_lr": "per_step"},
        {"adapt_only_last_layer": True},
        {"exploration_coef": 1.0},
    ],
)
def test_meta_gradient_against_finite_differences(options):
    agent = make(inner_lr=0.5, **options)
    batches = doubled(agent, collected(agent))
    gradient = meta_gradient(agent, batches)
    theta = agent._theta()
    slow = []
    for parameter, index in ((p, i) for p in theta for i in range(p.numel())):
        values = []
        for change in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.view(-1)[index] += change
            values.append(surrogate(agent, batches).item())
            with torch.no_grad():
                parameter.view(-1)[index] -= change
        slow.append((values[0] - values[1]) / 2e-5)
    assert gradient == pytest.approx(np.array(slow), abs=1e-8)
    assert gradient.abs().max() > 1e-3


def test_meta_gradient_against_a_loop_over_tasks():
    agent = make(inner_lr=0.5, inner_steps=2)
    batches = doubled(agent, collected(agent))
    theta = {name: p.detach().clone() for name, p in agent.policy.named_parameters()}
    leaves = {name: p.requires_grad_() for name, p in theta.items()}

    def log_probs(parameters, batch, task):
        real = batch.mask[task].bool()
        x = batch.observations[task][real]
        hidden = torch.tanh(x @ parameters["weight0"] + parameters["bias0"])
        mean = hidden @ parameters["weight1"] + parameters["bias1"]
        std = parameters["log_std"].clamp(-5.0, 2.0).exp()
        normal = torch.distributions.Normal(mean, std)
        chosen = normal.log_prob(batch.actions[task][real]).sum(-1)
        return chosen, batch.advantages[task][real], batch.log_probs[task][real]

    losses = []
    for task in range(3):
        parameters = leaves
        for batch in batches[:-1]:
            chosen, advantages, _ = log_probs(parameters, batch, task)
            loss = -(chosen * advantages).mean()
            slopes = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            parameters = {n: p - 0.5 * g for (n, p), g in zip(parameters.items(), slopes)}
        chosen, advantages, before = log_probs(parameters, batches[-1], task)
        losses.append(-((chosen - before).exp() * advantages).mean())
    loss = torch.stack(losses).mean()
    slow = flatten(torch.autograd.grad(loss, list(leaves.values())))
    assert surrogate(agent, batches).item() == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(meta_gradient(agent, batches), slow, atol=1e-12)


def test_second_order_differs_from_first_order():
    agent = make(inner_lr=0.5)
    batches = doubled(agent, collected(agent))
    second = meta_gradient(agent, batches)
    agent.first_order = True
    first = meta_gradient(agent, batches)
    # First order is the mean of the query gradients at the adapted parameters.
    adapted = {n: p.detach().requires_grad_() for n, p in agent._adapt(batches[:1], False).items()}
    loss = agent._outer_loss(
        batches[:1], batches[1], agent.policy(batches[1].observations, adapted)
    )
    direct = flatten([g.sum(0) for g in torch.autograd.grad(loss, list(adapted.values()))])
    assert torch.allclose(first, direct, atol=1e-12)
    assert (first - second).norm() > 0.01 * second.norm()


def test_ratio_has_the_gradient_of_log_prob_but_another_hessian():
    agent = make(inner_lr=0.5)
    batches = doubled(agent, collected(agent))
    # Exactly the policy that acted: sampling was in single precision.
    first = batches[0]
    with torch.no_grad():
        log_probs = agent.policy(first.observations, agent.policy.stacked(3)).log_prob(
            first.actions
        )
    batches[0] = Batch(**{**vars(first), "log_probs": log_probs})
    outcomes = []
    for objective in ("log_prob", "ratio"):
        agent.inner_objective = objective
        adapted = flatten(list(agent._adapt(batches[:1], False).values()))
        outcomes.append((adapted, meta_gradient(agent, batches)))
    assert torch.allclose(outcomes[0][0], outcomes[1][0], atol=1e-12)
    assert (outcomes[0][1] - outcomes[1][1]).norm() > 1e-3 * outcomes[0][1].norm()


def test_anil_adapts_nothing_but_the_last_layer():
    agent = make(adapt_only_last_layer=True)
    (batch, _) = collected(agent)
    before = agent.policy.stacked(3)
    after = agent._adapt([batch], differentiable=False)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"weight1", "bias1"}


def test_fisher_product_is_the_hessian_of_the_divergence():
    agent = make(inner_lr=0.5, inner_steps=2, fisher_stride=1, cg_damping=0.25)
    *supports, query = doubled(agent, collected(agent))
    theta = agent._theta()
    adapted = agent._adapt(supports, differentiable=False)
    with torch.no_grad():
        old = agent.policy(query.observations, adapted)
    after = agent.policy(query.observations, agent._adapt(supports, differentiable=True))
    divergence = task_mean(kl_divergence(old, after), query.mask).mean()
    slopes = flatten(torch.autograd.grad(divergence, theta, create_graph=True))
    hessian = torch.stack(
        [flatten(torch.autograd.grad(slope, theta, retain_graph=True)) for slope in slopes]
    )
    product = agent._fisher_product(supports, query, adapted)
    eye = torch.eye(len(hessian), dtype=torch.float64)
    ours = torch.stack([product(row) for row in eye])
    assert torch.allclose(ours, hessian + 0.25 * eye, atol=1e-9)
    assert hessian.norm() > 0.1


def test_fisher_product_takes_any_function():
    theta = [torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)]
    outputs = [torch.stack([theta[0][0] * theta[0][1], theta[0][1] ** 3])]
    inputs = [outputs[0].detach().clone().requires_grad_()]
    divergence = (inputs[0] - inputs[0].detach()).square().sum()
    product = fisher_product(theta, outputs, inputs, divergence, damping=0.0)
    jacobian = torch.tensor([[-1.0, 0.5], [0.0, 3.0]], dtype=torch.float64)
    vector = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert torch.allclose(product(vector), 2.0 * jacobian.T @ jacobian @ vector)


def test_conjugate_gradient_against_solve():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(30, 30, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.T + 0.5 * torch.eye(30, dtype=torch.float64)
    target = torch.randn(30, generator=generator, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, target)
    solution = conjugate_gradient(lambda v: matrix @ v, target, 60, tolerance=1e-20)
    assert torch.allclose(solution, exact, atol=1e-8)
    assert conjugate_gradient(lambda v: matrix @ v, torch.zeros(30), 5).tolist() == [0.0] * 30


def test_line_search_shortens_until_both_conditions_hold():
    # The loss falls for steps below 1, the divergence is the square of the step.
    found = line_search(
        lambda step: (float(step**2 - step), float(step**2)), torch.tensor(2.0), 0.0, 0.5
    )
    assert found.num_tries == 6
    assert float(found.step) == pytest.approx(2.0 * 0.8**5)
    assert found.kl <= 0.5
    failed = line_search(lambda step: (1.0, 0.0), torch.tensor(2.0), 0.0, 0.5)
    assert float(failed.step) == 0.0
    nan = line_search(lambda step: (float("nan"), 0.0), torch.tensor(2.0), 0.0, 0.5)
    assert float(nan.step) == 0.0


def test_no_second_order_graph_and_a_fixed_old_policy_in_the_line_search(monkeypatch):
    agent = make()
    graphs = []
    inner_step = agent.inner_step

    def spy(*args, differentiable=False, **kwargs):
        graphs.append(differentiable)
        return inner_step(*args, differentiable=differentiable, **kwargs)

    monkeypatch.setattr(agent, "inner_step", spy)
    agent.learn(1)
    # Sampling; outer gradient; Fisher products; then the line search without a graph.
    assert graphs[:3] == [False, True, True]
    assert graphs[3:]
    assert not any(graphs[3:])


def test_linear_baseline_against_a_fit_for_each_task():
    generator = np.random.default_rng(0)
    lengths = generator.integers(2, 12, (3, 5))
    mask = (np.arange(12)[:, None, None] < lengths).astype(np.float32)
    observations = generator.normal(0.0, 4.0, (12, 3, 5, 2)).astype(np.float32)
    rewards = generator.normal(size=(12, 3, 5)).astype(np.float32) * mask
    returns = discounted_returns(torch.as_tensor(rewards).flatten(1), 0.9).reshape(12, 3, 5)
    values = linear_baseline(torch.as_tensor(observations), returns, torch.as_tensor(mask))
    for task in range(3):
        rows, targets, places = [], [], []
        for episode in range(5):
            for t in range(lengths[task, episode]):
                o = np.clip(observations[t, task, episode], -10.0, 10.0).astype(np.float64)
                clock = t / 100.0
                rows.append([*o, *o**2, clock, clock**2, clock**3, 1.0])
                rest = rewards[t : lengths[task, episode], task, episode]
                targets.append(sum(0.9**k * reward for k, reward in enumerate(rest)))
                places.append((t, task, episode))
        x, y = np.array(rows), np.array(targets)
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(8), x.T @ y)
        ours = np.array([values[place].item() for place in places])
        assert ours == pytest.approx(x @ weights, abs=1e-4)


def test_the_baseline_is_refitted_in_each_round():
    """Rewards of the second round are ten times larger: a stale fit would miss them."""
    observations = torch.rand(6, 1, 4, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(6, 1, 4)
    small = linear_baseline(observations, observations.sum(-1), mask)
    large = linear_baseline(observations, 10.0 * observations.sum(-1), mask)
    assert torch.allclose(large, 10.0 * small, atol=1e-2)
    assert torch.allclose(large, 10.0 * observations.sum(-1), atol=1e-2)


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
    agent = make(inner_steps=2, inner_lr=0.5)
    batches = collected(agent)
    for rounds, batch in enumerate(batches):
        adapted = agent._adapt(batches[:rounds], differentiable=False)
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

    class Spy:
        lockstep = True
        act = adaptation.act

        def observe(self, *args):
            steps.append((adaptation.num_inner_steps, args[-1].copy()))
            adaptation.observe(*args)

    observations, _ = env.reset(seed=0)
    played = rollout(env, observations, Spy(), 3)
    lengths = np.ceil(env.tasks.columns["length"])
    assert played.lengths.tolist() == np.repeat(lengths[:, None], 3, axis=1).tolist()
    # In round r every lane acts with the parameters after r inner steps.
    for rounds in range(3):
        active = np.stack([lanes for taken, lanes in steps if taken == rounds])
        assert active.sum(axis=0).tolist() == lengths.tolist()
    # The next rollout goes on where this one ended: at the start of an episode.
    assert played.observations[:, 0].tolist() == [0.0] * 6


def test_any_number_of_inner_steps_and_the_halved_rate():
    for halve in (False, True):
        agent = make(halve_inner_lr=halve, inner_lr=0.3)
        scales = []
        inner_step = agent.inner_step

        def spy(*args, scale, inner_step=inner_step, scales=scales, **kwargs):
            scales.append(scale)
            return inner_step(*args, scale=scale, **kwargs)

        agent.inner_step = spy
        env = agent.tasks.make_vec(8)
        env.set_tasks(agent.tasks.sample("held_out", 2, 0).repeat(4))
        before = flatten(agent._theta()).clone()
        rollout(env, env.reset(seed=0)[0], agent.adaptation(2, seed=0), 4)
        assert scales == ([1.0, 0.5, 0.5] if halve else [1.0, 1.0, 1.0])
        assert torch.equal(before, flatten(agent._theta()))


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
    whole.learn(250, reset_num_timesteps=False)
    assert whole.iteration >= 3
    killed = make(walk(discrete=True), **options)
    killed.learn(250)
    killed.save(tmp_path / "agent")
    resumed = MAML.load(tmp_path / "agent", walk(discrete=True), device="cpu")
    resumed.set_logger(Logger(None, []))
    assert resumed.hyperparameters.keys() == killed.hyperparameters.keys()
    resumed.learn(250, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps
    assert torch.equal(flatten(whole._theta()), flatten(resumed._theta()))
    assert not torch.equal(flatten(whole._theta()), flatten(killed._theta()))


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


def test_bad_input():
    for options, message in (
        ({"meta_batch_size": 0}, "meta_batch_size must be at least 1"),
        ({"inner_lr": 0.0}, r"inner_lr must be in \(0, inf\]"),
        ({"outer": "trpi"}, "unknown outer 'trpi'; did you mean 'trpo'"),
        ({"inner_steps": 0, "learn_inner_lr": "per_step"}, "needs an outer gradient"),
        ({"policy_kwargs": {"activation": "gelu"}}, "unknown activation 'gelu'"),
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
