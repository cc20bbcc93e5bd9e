"""VariBAD: what the belief is trained on, what the policy sees of it, and what both learn."""

import numpy as np
import pytest
import torch
from command_line import SMALL as SMALL_RUN
from command_line import small_evaluations
from gymnasium import spaces
from saved_agents import assert_same, everything
from torch.distributions import Independent, Normal, kl_divergence
from toys import BOX, StrollVectorEnv, aim, strolls

from metarl import TaskDistribution, envs, evaluate
from metarl.agents import VariBAD
from metarl.agents.classical.random_actions import RandomActions
from metarl.agents.varibad.model import gaussian_kl, sampled_steps, successive_kl
from metarl.experiments.cli.main import main
from metarl.experiments.reports import video
from metarl.experiments.reports.beliefs import (
    belief_pictures,
    draw_beliefs,
    expected_in_cells,
)
from metarl.experiments.runs.run import Run

SMALL = {
    "trials_per_iteration": 6,
    "trials_per_minibatch": 4,
    "n_epochs": 2,
    "normalize_observation": True,
    "normalize_reward": True,
    "latent_size": 3,
    "vae_gradient_steps": 2,
    "vae_batch_trials": 5,
    "vae_buffer_trials": 10,
    "policy_kwargs": {"hidden_size": 8, "head": [8], "decoder": [8, 8]},
}


def small(family=None, seed=3, **options):
    return VariBAD(family or strolls(), seed=seed, **{**SMALL, **options})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def collected(agent):
    """The buffer of an iteration that was played, and not learned from."""
    env = agent.tasks.make_vec(agent.n_envs)
    return agent.collect(env, lambda transition: True)[1]


# The task model.


def gaussian(belief):
    mean, log_variance = belief.chunk(2, -1)
    return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)


def test_divergences_are_those_of_torch():
    beliefs = torch.randn(6, 4, 10, dtype=torch.float64, generator=generator())
    expected = kl_divergence(gaussian(beliefs[1:]), gaussian(beliefs[:-1]))
    torch.testing.assert_close(gaussian_kl(beliefs[1:], beliefs[:-1]), expected)
    standard = gaussian(torch.zeros(4, 10, dtype=torch.float64))
    first = kl_divergence(gaussian(beliefs[0]), standard)
    torch.testing.assert_close(successive_kl(beliefs), torch.cat([first[None], expected]))


def decoded(decoder, latent, step):
    return decoder.output(decoder.of_latent(latent) * decoder.of_step(step))


@pytest.mark.parametrize("decoders", [(True, False), (False, True), (True, True)])
def test_the_loss_is_the_sum_over_all_pairs_of_steps(decoders):
    agent = small(decode_reward=decoders[0], decode_state=decoders[1])
    model, part = agent.model.double(), agent.trial_input
    numbers = torch.randn(2, 7, 3, part.size, dtype=torch.float64, generator=generator())
    rows, outcomes = numbers
    lengths = [7, 4, 1]
    mask = torch.tensor([[float(t < length) for length in lengths] for t in range(7)]).double()
    loss, measured = model.loss(rows, outcomes, mask, 0.7, None, generator(1))
    drawn = torch.randn(7, 3, 3, generator=generator(1))
    total, errors, kls = 0.0, {"reward": [], "state": []}, []
    for n, length in enumerate(lengths):
        before = gaussian(torch.zeros(6, dtype=torch.float64))
        for t in range(length):
            # Only what came up to t is read.
            belief = model.encoder(rows[: t + 1, n : n + 1])[0][-1, 0]
            kls.append(kl_divergence(gaussian(belief), before).item())
            before = gaussian(belief)
            mean, log_variance = belief.chunk(2)
            latent = mean + (0.5 * log_variance).exp() * drawn[t, n]
            for k in range(length):
                observation, following = (values[k, n, :2] for values in (rows, outcomes))
                action, reward = outcomes[k, n, part.action], outcomes[k, n, part.reward]
                if model.reward is not None:
                    step = torch.cat([observation, action, following])
                    error = reward - decoded(model.reward, latent, step)
                    errors["reward"].append(0.5 * error.square().sum().item())
                if model.state is not None:
                    change = decoded(model.state, latent, torch.cat([observation, action]))
                    predicted = observation + change
                    errors["state"].append(0.5 * (following - predicted).square().sum().item())
    total = sum(map(sum, errors.values())) + 0.7 * sum(kls)
    assert loss.item() == pytest.approx(total / 3, rel=1e-6)
    assert measured["belief_kl"].item() == pytest.approx(sum(kls) / 3, rel=1e-6)
    for name, values in errors.items():
        assert (f"{name}_loss" in measured) == bool(values)
        if values:
            assert measured[f"{name}_loss"].item() == pytest.approx(np.mean(values), rel=1e-6)


def test_sampled_steps_estimate_the_sums_without_a_bias():
    mask = (torch.arange(9)[:, None] < torch.tensor([9, 5, 1])).float()
    values = torch.randn(9, 3, generator=generator())
    expected = (values * mask).sum(0)
    source, estimates = generator(1), []
    for _ in range(4000):
        steps, weights = sampled_steps(mask, 4, source)
        assert steps.shape == weights.shape == (4, 3)
        assert (steps < mask.sum(0)).all()
        estimates.append((values.gather(0, steps) * weights).sum(0))
    estimates = torch.stack(estimates)
    spread = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - expected).abs() < 4 * spread + 1e-5).all()
    assert spread[0] > 0.001
    for count in (9, 12, None):  # all of them
        steps, weights = sampled_steps(mask, count, source)
        assert torch.equal((values.gather(0, steps) * weights).sum(0), expected)


def test_a_belief_depends_on_its_own_trial_up_to_its_step():
    agent = small()
    rows = torch.randn(6, 3, agent.trial_input.size, generator=generator())
    beliefs, _ = agent.network.encoder(rows)
    changed = rows.clone()
    changed[3, 1] += 1.0
    differs = (agent.network.encoder(changed)[0] != beliefs).any(-1)
    assert torch.equal(differs.nonzero().unique(dim=0), torch.tensor([[3, 1], [4, 1], [5, 1]]))


# What is recorded.


@pytest.mark.parametrize("space", [BOX, envs.make("gridnavi").make_vec(1).single_action_space])
def test_stored_trials_hold_the_rows_and_what_every_step_led_to(space):
    agent = small(strolls(space))
    buffer = collected(agent)
    trials, outcomes, part = buffer.trials(), buffer.outcomes(), agent.trial_input
    real = trials.mask.bool()
    assert not real.all()
    # The first number of an observation counts the steps of the episode: at an end too, the
    # outcome is the observation after the step, not the first of the next episode.
    torch.testing.assert_close(outcomes[..., 0][real], trials.rows[..., 0][real] + 1.0)
    torch.testing.assert_close(outcomes[..., part.reward.start][real], trials.rewards[real])
    agent.store.add(trials, outcomes)
    rows, stored, mask = agent.store.sample(40, generator())
    found = set()
    for n in range(40):
        (origin,) = [
            i
            for i in range(6)
            if torch.equal(rows[0, n], trials.rows[0, i])
            and torch.equal(mask[:, n], trials.mask[: len(mask), i])
        ]
        length = int(mask[:, n].sum())
        assert torch.equal(rows[:length, n], trials.rows[:length, origin])
        assert torch.equal(stored[:length, n], outcomes[:length, origin])
        found.add(origin)
    assert len(found) == 6


def test_the_latest_trials_are_stored():
    agent = small(vae_buffer_trials=10)
    expected = []
    for _ in range(3):
        buffer = collected(agent)
        trials, outcomes = buffer.trials(), buffer.outcomes()
        agent.store.add(trials, outcomes)
        expected += trials.mask.sum(0).tolist()
        agent.iteration += 1  # other tasks
    assert len(set(expected)) > 4
    assert agent.store.state()["lengths"].tolist() == expected[-10:]
    assert agent.store.state()["steps"].shape[:2] == (10, max(expected))


# What the policy sees, and what each loss trains.


def test_the_policy_learns_from_the_beliefs_that_it_acted_on(monkeypatch):
    agent = small().learn(50)
    seen = []
    outputs = agent.network.policy.outputs

    def spy(rows):
        seen.append(rows.clone())
        return outputs(rows)

    monkeypatch.setattr(agent.network.policy, "outputs", spy)
    trials = collected(agent).trials()
    acted = torch.stack(seen)
    batch, _ = agent.batch_of(trials)
    real = trials.mask.bool()
    assert batch.rows.shape[-1] == 2 + 2 * 3  # observation, mean and log-variance
    torch.testing.assert_close(batch.rows[real], acted[real], atol=1e-5, rtol=1e-4)
    seen.clear()
    agent.update_policy(trials)
    epochs = torch.cat([rows.flatten(0, 1) for rows in seen])
    assert len(epochs) == 2 * batch.rows.shape[0] * 6
    known = {tuple(row) for row in batch.rows.flatten(0, 1).tolist()}
    assert {tuple(row) for row in epochs.tolist()} == known


def test_each_loss_trains_its_own_networks():
    agent = small(ent_coef=0.1).learn(50)
    policy, model = agent.network.policy, agent.model

    def changed(module, update):
        before = {name: each.clone() for name, each in module.state_dict().items()}
        update()
        after = module.state_dict()
        return {name for name in before if not torch.equal(before[name], after[name])}

    trials = collected(agent).trials()
    agent.model_optimizer.zero_grad()
    assert not changed(model, lambda: agent.update_policy(trials))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not changed(policy, agent.update_model)
    names = set(policy.state_dict())
    assert changed(policy, lambda: agent.update_policy(trials)) == names
    assert changed(model, agent.update_model) == set(model.state_dict())
    inputs, _ = agent.network.policy_inputs(trials.rows)
    assert not inputs.requires_grad


# Saved and resumed.


def test_a_saved_agent_continues_with_the_same_bits(tmp_path):
    straight = small(vae_terms=4)
    straight.learn(300)
    agent = small(vae_terms=4).learn(100)
    agent.save(tmp_path / "agent")
    loaded = VariBAD.load(tmp_path / "agent", strolls())
    assert_same(everything(agent), everything(loaded))
    for name, tensor in agent.store.state().items():
        assert torch.equal(loaded.store.state()[name], tensor)
    loaded.learn(straight.num_timesteps - loaded.num_timesteps, reset_num_timesteps=False)
    assert loaded.iteration == straight.iteration > 3
    assert_same(everything(straight), everything(loaded))
    # Without its trials it acts alike, and learns something else.
    agent.save(tmp_path / "acting", with_optimizers=False)
    acting = VariBAD.load(tmp_path / "acting", strolls())
    assert len(acting.store) == 0
    np.testing.assert_array_equal(
        *(evaluate(each, strolls(), num_tasks=4).returns for each in (acting, agent))
    )
    fresh = small()
    fresh.start_from(tmp_path / "agent")
    assert (len(fresh.store), fresh.num_timesteps) == (0, 0)
    fresh.learn(1)


def test_an_iteration_that_fails_leaves_no_trials(monkeypatch):
    agent = small().learn(1)
    stored = agent.store.state()["steps"].clone()
    monkeypatch.setattr(agent, "update_moments", lambda trials: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        agent.learn(1)
    assert torch.equal(agent.store.state()["steps"], stored)


@pytest.mark.parametrize(
    "damage",
    [
        lambda steps, lengths: {"steps": steps},
        lambda steps, lengths: {"steps": steps[..., 1:], "lengths": lengths},
        lambda steps, lengths: {"steps": steps[1:], "lengths": lengths},
        lambda steps, lengths: {"steps": steps, "lengths": lengths + steps.shape[1]},
        lambda steps, lengths: {"steps": steps.double(), "lengths": lengths},
    ],
)
def test_damaged_trials_are_refused(damage):
    agent = small().learn(1)
    before = agent.store.state()
    with pytest.raises(ValueError, match="stored trials"):
        agent.restore_extra_state(damage(**before), {})
    assert all(agent.store.state()[name] is tensor for name, tensor in before.items())


# What it learns.


def test_it_aims_better_after_a_shot():
    # Four shots at -1 or 1. Without a belief the best is 0; with it the first shot shows where the
    # target is: 0, 1, 1, 1. Later shots earn 0.08 with a belief of zeros, 0.55 with an encoder that
    # is never trained.
    family = aim()
    agent = VariBAD(
        family,
        seed=0,
        trials_per_iteration=64,
        trials_per_minibatch=32,
        learning_rate=1e-2,
        anneal=True,
        gamma=1.0,
        gae_lambda=1.0,
        vae_learning_rate=1e-2,
        vae_gradient_steps=8,
        policy_kwargs={"hidden_size": 16, "head": [16], "decoder": [16]},
    ).learn(25 * 64 * 4)
    report = evaluate(agent, family, num_tasks=200, deterministic=True)
    assert abs(report.returns[:, 0].mean()) < 0.2
    assert report.returns[:, 1:].mean() > 0.9


def test_training_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with small_evaluations():
        assert main(["train", "varibad", "bandit-3x2", *SMALL_RUN, "--run-dir", "run"]) == 0
    assert "VariBAD on bandit-3x2" in capsys.readouterr().out
    run = Run.open("run")
    assert run.config["agent"] == "varibad"
    header = (tmp_path / "run" / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"train/reward_loss", "train/state_loss", "train/belief_kl"} <= set(header)


# What it believes.


def test_expected_rewards_are_means_over_the_belief_in_the_units_of_the_family():
    agent = small(envs.make("gridnavi")).learn(300)
    torch.nn.init.constant_(agent.model.reward.output.weight, 5.0)  # so that beliefs differ
    rows = collected(agent).trials().rows[:7, 0]
    cells, actions = np.array([[0, 1], [4, 2]], np.float32), np.array([1, 4])
    expected = agent.expected_rewards(rows.numpy(), cells, actions, cells + 1, num_samples=50)
    assert expected.shape == (7, 2)
    assert np.ptp(expected, axis=0).min() > 0.02
    noise = torch.randn(50, 7, 3, generator=generator(0))
    beliefs, _ = agent.network.encoder(agent.normalizer()(rows)[:, None])
    moments = agent.observation_moments
    for k, (cell, action) in enumerate(zip(torch.tensor(cells), actions)):
        before, after = ((place - moments.mean) / moments.std() for place in (cell, cell + 1))
        step = torch.cat([before, torch.eye(5)[action], after]).float()
        for t in range(7):
            mean, log_variance = beliefs[t, 0].chunk(2)
            latents = mean + (0.5 * log_variance).exp() * noise[:, t]
            rewards = decoded(agent.model.reward, latents, step) * agent.reward_moments.std()
            assert expected[t, k] == pytest.approx(rewards.mean().item(), rel=1e-3, abs=1e-5)
    with pytest.raises(ValueError, match="needs an agent with decode_reward"):
        small(decode_reward=False, decode_state=True).expected_rewards(rows, cells, actions, cells)


def test_beliefs_are_drawn_over_grids(tmp_path):
    agent = small(envs.make("gridnavi")).learn(1)
    figure = draw_beliefs(agent, shown=[0, 14, 15], path=tmp_path / "beliefs.png")
    assert (tmp_path / "beliefs.png").read_bytes().startswith(b"\x89PNG")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["episode 1, step 0", "episode 1, step 14", "episode 2, step 0"]
    pictures = [axis.images[0].get_array() for axis in figure.axes[:3]]
    assert [picture.shape for picture in pictures] == [(5, 5)] * 3
    assert not np.array_equal(pictures[0], pictures[1])
    with pytest.raises(ValueError, match="over grids with a hidden goal, 'strolls' has none"):
        draw_beliefs(small())
    with pytest.raises(TypeError, match="beliefs can be drawn of a VariBAD agent, got"):
        draw_beliefs(RandomActions(envs.make("gridnavi")))


def test_films_paint_the_belief_under_the_grid():
    tasks = envs.make("gridnavi")
    agent = small(tasks).learn(1)
    task = tasks.sample("train", 1, 0)[0]
    pictures, _ = video._film(agent, tasks, "train", task, 2, seed=5, deterministic=False)
    episodes, _ = video._play(agent, tasks, task, 2, seed=5, deterministic=False)
    steps = [step.transition for steps in episodes for step in steps]
    expected = expected_in_cells(agent, steps)
    grid = 44 * 5 + 20
    assert pictures[0].shape[1] == 2 * grid
    brightness = np.stack(pictures)[:, grid : 2 * grid].astype(int).sum(-1)
    for column, of_episode in enumerate((expected[:15], expected[15:])):
        half = brightness[:, :, grid * column :]
        # The middles of the cells; pictures begin at the top, and y points up.
        cells = half[:, 10 + 22 : grid : 44, 10 + 22 : grid : 44][:, 4::-1, :5]
        for painted, values in zip(cells, of_episode):
            order = np.argsort(values.ravel())
            assert (np.diff(painted.ravel()[order]) >= -3).all()  # colors are rounded
    assert belief_pictures(agent, strolls(), steps) is None
    assert belief_pictures(RandomActions(tasks), tasks, steps) is None


# What is refused.


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"decode_reward": False}, ValueError, "decode_reward or decode_state must be true"),
        ({"kl_weight": -1.0}, ValueError, "kl_weight must be at least 0"),
        ({"latent_size": 0}, ValueError, "latent_size must be at least 1"),
        ({"vae_terms": 0}, ValueError, "vae_terms must be at least 1"),
        ({"policy_kwargs": {"decoder": []}}, ValueError, "decoder must name at least one layer"),
        ({"policy_kwargs": {"memory": "elephant"}}, ValueError, "unknown memory 'elephant'"),
        ({"policy_kwargs": {"separate_critic": True}}, ValueError, "unknown policy_kwargs name"),
    ],
)
def test_mistakes_are_found_before_anything_runs(options, error, match):
    with pytest.raises(error, match=match):
        small(**options)


def test_images_are_refused():
    def pictures(num_envs):
        env = StrollVectorEnv(num_envs, BOX)
        env.single_observation_space = spaces.Box(0, 255, (8, 8, 1), np.uint8)
        return env

    family = TaskDistribution("pictures", strolls().parameters, pictures)
    with pytest.raises(ValueError, match="VariBAD does not take images, 'pictures' has images of"):
        VariBAD(family)
