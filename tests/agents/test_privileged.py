"""What training knows of the task, and the policy does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import trained
from run_logs import rows_of
from stable_baselines3.common.logger import configure
from toys import aim, strolls
from witness import Witness

from metarl import Choice, Uniform, play
from metarl.agents import RL2
from metarl.agents.common.ppo import PARTS, ppo_loss
from metarl.agents.common.task_prediction import TaskPrediction
from metarl.agents.training.interface import TaskInterface
from metarl.envs.games.rules import Table

MEMORIES = {
    "of the actor": {"privileged_critic": True},
    "of its own": {"privileged_critic": True, "separate_critic": True, "memory": "lstm"},
    "with a head": {"privileged_critic": True, "encoder": [6], "head": [7, 5]},
}
SMALL = {"trials_per_iteration": 6, "trials_per_minibatch": 4, "n_epochs": 2}


def small(policy_kwargs=None, family=None, **options):
    network = {"hidden_size": 8, **(policy_kwargs or {})}
    return RL2(family or strolls(), seed=3, policy_kwargs=network, **{**SMALL, **options})


def tensors(agent):
    return {name: tensor.clone() for name, tensor in agent._state()[0].items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# A privileged critic.


@pytest.mark.parametrize("name", MEMORIES)
def test_the_critic_depends_on_the_task_and_the_policy_does_not(name):
    agent = small(MEMORIES[name])
    network = agent.network
    rows = torch.randn(5, 3, agent.trial_input.size)
    pixels = torch.zeros(5, 3, 0, dtype=torch.uint8)
    tasks = torch.randn(2, 3, agent.tasks.task_size)
    one, other = (network(rows, pixels, task) for task in tasks)
    assert torch.equal(one.distribution.mean, other.distribution.mean)
    assert ((one.values - other.values).abs() > 1e-4).all()
    assert torch.equal(network.values(rows, pixels, tasks[0]), one.values)
    # Both depend on what was seen before: the critic must know what the policy has found out.
    rows[0, :, 0] += 1.0
    later = network(rows, pixels, tasks[0])
    assert ((later.values[1:] - one.values[1:]).abs() > 1e-6).all()


def test_its_values_are_those_of_its_layers_step_by_step():
    network = small(MEMORIES["of the actor"]).network
    with torch.no_grad():
        rows, task = torch.randn(4, 2, network.actor.sizes.inputs), torch.randn(2, 3)
        pixels = torch.zeros(4, 2, 0, dtype=torch.uint8)
        outputs = network(rows, pixels, task)
        state = network.initial_state(2)
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        for t in range(4):
            _, state = network.act(rows[t], pixels[t], state)  # a GRU's state is its features
            for n in range(2):
                joined = np.concatenate([state[1][n], rows[t, n], task[n]])
                layer = weights["value_layers.0.weight"] @ joined + weights["value_layers.0.bias"]
                value = weights["value.weight"] @ np.tanh(layer) + weights["value.bias"]
                np.testing.assert_allclose(outputs.values[t, n], value[0], rtol=1e-4)


TIMED = {
    "of a shared memory": {},
    "with a head": {"head": [7], "separate_critic": True},
    "without memory": {"memory": "none", "encoder": [6]},
    "with the task": {"privileged_critic": True},
    "emitted": {"hypernetwork": [5]},
}


@pytest.mark.parametrize("name", TIMED)
def test_a_timed_critic_sees_the_share_of_the_episode_and_the_policy_does_not(name):
    agent = small({"timed_critic": True, **TIMED[name]})
    network, horizon = agent.network, agent.interface.horizon
    rows = torch.randn(9, 2, agent.trial_input.size)
    ends = rows[..., agent.trial_input.episode_end]
    ends[:] = 0.0
    ends[3, 0] = ends[4, 0] = ends[7, 1] = 1.0
    expected = torch.tensor([[0, 1, 2, 0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 0, 1]]).T / horizon
    pixels, task = torch.zeros(9, 2, 0, dtype=torch.uint8), torch.randn(2, agent.tasks.task_size)
    seen = []
    joined = network.value if "hypernetwork" in TIMED[name] else network.value_layers
    if not len(list(joined.parameters())):
        joined = network.value
    joined.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    whole = network(rows, pixels, task)
    size = 8
    assert torch.equal(seen[0][..., size], expected)
    # In parts of a trial, too.
    for number, state in enumerate(network.states(rows, pixels, 2)):
        part = slice(2 * number, 2 * number + 2)
        values = network(rows[part], pixels[part], task, state).values
        torch.testing.assert_close(values, whole.values[part])


@pytest.mark.parametrize("separate", [False, True])
def test_what_the_critic_learns_does_not_change_the_actors_memory(separate):
    agent = small({"privileged_critic": True, "separate_critic": separate})
    network = agent.network
    rows = torch.randn(4, 2, agent.trial_input.size)
    pixels = torch.zeros(4, 2, 0, dtype=torch.uint8)
    values = network(rows, pixels, torch.randn(2, agent.tasks.task_size)).values
    values.square().mean().backward()
    assert all(parameter.grad is None for parameter in network.actor.parameters())
    assert all(parameter.grad is not None for parameter in network.value_layers.parameters())


def test_each_trial_has_the_value_of_its_own_task():
    # Minibatches are drawn, and cut into pieces: whose task is whose must not get lost.
    witness = Witness(policy_kwargs={"privileged_critic": True})
    network = witness.agent.network
    calls = []
    network.register_forward_hook(lambda _, given, out: calls.append((given[0], given[2])))
    (batch,) = witness.learn().batches
    for rows, task in calls:
        for n in range(rows.shape[1]):
            (whose,) = (batch.rows[0] == rows[0, n]).all(-1).nonzero()[:, 0]
            assert torch.equal(task[n], batch.task[whose])
    assert len(calls) == 2 * 2


def test_it_predicts_what_only_the_task_tells():
    # Every step earns what the task says, and no step shows the task before it earns. In the first
    # of these episodes a critic without the task predicts the mean. It explains 0.38 and 0.45 of
    # the variance of returns (two seeds), one that sees the task 0.86 and 0.90.
    family = strolls(stop=0.0, worth=(0.0, 1.0), episodes_per_trial=1)
    options = {
        "trials_per_iteration": 64,
        "trials_per_minibatch": 16,
        "learning_rate": 1e-2,
        "gamma": 1.0,
        "gae_lambda": 1.0,
    }
    explained = {}
    for privileged in (False, True):
        agent = small({"privileged_critic": privileged}, family, **options)
        batch_of, shares = agent.batch_of, []

        def witnessed(trials, batch_of=batch_of, shares=shares):
            batch, share = batch_of(trials)
            shares.append(share)
            return batch, share

        agent.batch_of = witnessed
        agent.learn(64 * 8 * 12)
        explained[privileged] = np.mean(shares[-5:])
    assert explained[True] > 0.75
    assert explained[False] < 0.55


@pytest.mark.parametrize("name", MEMORIES)
def test_resumed_to_the_bit(name, tmp_path):
    straight = small(MEMORIES[name]).learn(200)
    half = small(MEMORIES[name]).learn(100)
    half.save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", strolls())
    loaded.learn(straight.num_timesteps - loaded.num_timesteps, reset_num_timesteps=False)
    assert same(tensors(straight), tensors(loaded))


# Prediction of the task.

PREDICTS = {"task_prediction_coef": 0.3}


def mixed():
    """A family whose tasks have numbers, a sign, a choice of three and rows of symbols."""
    table = Table((("a", "b"), ("c", "b"), ("b", "a")), "rows")
    return replace(
        strolls(),
        parameters={
            "length": Uniform(1.0, 12.0),
            "place": Uniform(-1.0, 1.0, (2,)),
            "side": Choice(("left", "right")),
            "kind": Choice((3, 5, 8)),
            "table": table,
        },
        splits={},
    )


def test_the_loss_of_a_prediction_of_each_kind_of_parameter():
    tasks = mixed()
    prediction = TaskPrediction(TaskInterface.of(tasks), 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        prediction.layer.weight.normal_()
        prediction.layer.bias.normal_()
    assert tasks.task_size == 1 + 2 + 1 + 3 + 2 * 3
    sampled = tasks.sample("train", 5, seed=0)
    features = torch.randn(7, 5, 4)
    losses = prediction(features, torch.as_tensor(tasks.encode(sampled)))
    assert losses.shape == (7, 5)
    outputs = prediction.layer(features).detach().double().numpy()
    columns = sampled.columns
    for t in range(7):
        for n in range(5):
            o = outputs[t, n]
            length = 2 * (columns["length"][n] - 1) / 11 - 1
            right = 1 / (1 + np.exp(-o[3]))
            symbols = [
                -np.log(
                    np.exp(o[7 + 3 * i + "abc".index(symbol)]) / np.exp(o[7 + 3 * i :][:3]).sum()
                )
                for i, symbol in enumerate(columns["table"][n])
            ]
            parts = [
                (o[0] - length) ** 2,
                np.mean((o[1:3] - columns["place"][n]) ** 2),
                -np.log(right if columns["side"][n] == "right" else 1 - right),
                -np.log(np.exp(o[4 + (3, 5, 8).index(columns["kind"][n])]) / np.exp(o[4:7]).sum()),
                np.mean(symbols),
            ]
            np.testing.assert_allclose(losses[t, n].item(), np.mean(parts), rtol=1e-4)


def test_the_expected_task_has_the_least_loss():
    # Of numbers the prediction itself; of choices their probabilities. A mistaken link, such as
    # the probability of a sign for its mean, moves the least loss elsewhere.
    tasks = mixed()
    prediction = TaskPrediction(TaskInterface.of(tasks), 4, torch.Generator().manual_seed(0))
    prediction.layer.weight.data.normal_()
    features = torch.randn(1, 4)
    expected = prediction.expected(features)
    loss = torch.zeros(())
    for sign in (-1.0, 1.0):  # where a sign has that mean
        target = expected.detach().clone()
        target[:, 3] = sign
        share = 0.5 * (1.0 + sign * expected[0, 3].detach())
        loss = loss + share * prediction(features[None], target).sum()
    (slope,) = torch.autograd.grad(loss, prediction.layer.bias)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)
    assert expected[0, 4:7].sum().item() == pytest.approx(1.0)


def test_an_adaptation_says_what_it_takes_the_task_for():
    agent = trained(aim(), 25, task_prediction_coef=1.0)
    sampled = aim().sample("train", 50, seed=0)
    guesses, adapting = [], []
    adaptation = agent.adaptation

    def remember(*words, **options):
        adapting.append(adaptation(*words, **options))
        return adapting[-1]

    agent.adaptation = remember

    def ask(_):
        guesses.append(aim().decode(adapting[0].predicted_task())["target"])
        return True

    play(agent, aim(), sampled, 2, seed=0, on_step=ask)
    right = [(guess == sampled.columns["target"]).mean() for guess in guesses]
    assert right[0] < 0.8  # nothing has been seen yet
    assert min(right[1:]) > 0.9
    assert small().adaptation(2).predicted_task() is None


def test_it_is_a_part_of_the_loss_and_trains_the_actors_memory():
    agent = small(**PREDICTS)
    witness = []
    batch_of = agent.batch_of
    agent.batch_of = lambda trials: witness.append(batch_of(trials)) or witness[-1]
    agent.learn(1)
    batch, network = witness[0][0], agent.network
    with_it, parts = ppo_loss(network, batch, agent.config)
    without, _ = ppo_loss(network, batch, replace(agent.config, task_prediction_coef=0.0))
    of_steps = network(batch.rows, batch.pixels, batch.task).task_loss
    expected = of_steps[batch.mask.bool()].mean()
    torch.testing.assert_close(parts[PARTS.index("task_prediction_loss")], expected)
    torch.testing.assert_close(with_it - without, 0.3 * expected)
    gradients = torch.autograd.grad(expected, list(network.actor.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_the_memory_learns_to_identify_the_task():
    # The reward says what the task is: from the second step of a trial on it can be known. A
    # prediction that knows nothing, or learns from the tasks of other trials, is at ln 2 = 0.69.
    agent = trained(aim(), 25, task_prediction_coef=1.0)
    batch_of, seen = agent.batch_of, []
    agent.batch_of = lambda trials: seen.append(trials) or batch_of(trials)
    agent.learn(1)
    (trials,) = seen
    with torch.no_grad():
        by_step = agent.network(trials.rows, trials.pixels, trials.task).task_loss.mean(1)
    assert by_step[0] > 0.6
    assert by_step[1:].mean() < 0.3


def test_a_prediction_is_logged_and_resumed_to_the_bit(tmp_path):
    straight = small(**PREDICTS)
    straight.set_logger(configure(str(tmp_path), ["csv"]))
    straight.learn(200)
    straight.logger.close()
    rows = rows_of(tmp_path / "progress.csv")
    assert all(float(row["train/task_prediction_loss"]) > 0 for row in rows)
    half = small(**PREDICTS).learn(100)
    half.save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", strolls())
    loaded.learn(straight.num_timesteps - loaded.num_timesteps, reset_num_timesteps=False)
    assert same(tensors(straight), tensors(loaded))
