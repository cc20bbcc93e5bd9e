"""A teacher that observes the task: its labels, imitation, and what follows."""

import contextlib
import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import SMALL, edit, refusal, small_evaluations
from run_logs import rows_of
from stable_baselines3.common.logger import configure
from toys import BOX, aim, risk, spaces, strolls

from metarl import Transition, envs, evaluate
from metarl.agents import MAML, RL2, MultiTask
from metarl.agents.classical.bandits import KnownBestArm
from metarl.agents.common.actions import action_head
from metarl.agents.common.ppo import Batch, TrialPPOConfig, ppo_loss
from metarl.agents.common.teacher import ActionLabels, OracleRows
from metarl.agents.common.trials import TrialOutputs
from metarl.experiments.cli import commands
from metarl.experiments.cli.main import main
from metarl.experiments.publish.runs import publish, table
from metarl.experiments.runs import training
from metarl.experiments.runs.records import load_training
from metarl.experiments.runs.run import Run
from metarl.trial import TrialInput

FAMILIES = {"box": strolls(), "discrete": strolls(spaces.Discrete(3, start=2))}
TEACHERS = {
    "multi-task": lambda tasks: MultiTask(tasks, seed=5, num_envs=256, n_epochs=1),
    "rl2": lambda tasks: RL2(
        tasks,
        seed=5,
        normalize_observation=True,
        policy_kwargs={"hidden_size": 8},
        trials_per_iteration=4,
        trials_per_minibatch=4,
    ),
}


def student(tasks, **options):
    return RL2(
        tasks,
        seed=3,
        **{
            "teacher_share": 1.0,
            "trials_per_iteration": 6,
            "trials_per_minibatch": 4,
            "n_epochs": 2,
            "policy_kwargs": {"hidden_size": 8},
            **options,
        },
    )


def recorded(agent, num_iterations=1):
    """Train; return what each iteration recorded, and learned from."""
    batch_of, seen = agent.batch_of, []

    def witnessed(trials):
        seen.append((trials, *batch_of(trials)))
        return seen[-1][1:]

    agent.batch_of = witnessed
    agent.learn(10**9, callback=lambda locals_, globals_: agent.iteration < num_iterations)
    return seen


def tensors(agent):
    return {name: tensor.clone() for name, tensor in agent._state()[0].items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Labels.


@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize("space", FAMILIES)
def test_labels_are_what_the_teacher_would_do_in_the_students_place(space, kind):
    # Step by step in its own adaptation, which gets the observation with the task.
    tasks = FAMILIES[space]
    teacher = TEACHERS[kind](tasks.oracle()).learn(1)
    agent = student(tasks)
    agent.set_teacher(teacher)
    trials = recorded(agent)[0][0]
    part = agent.trial_input
    labels = teacher.action_labels(OracleRows(tasks, part)(trials), trials.pixels)
    outputs = labels.outputs.numpy()
    assert outputs.shape == (*trials.rewards.shape, outputs.shape[-1])
    acting = teacher.adaptation(6, deterministic=True)
    for t, rows in enumerate(trials.rows[:-1].numpy()):
        seen = np.concatenate([rows[:, part.observation], trials.task.numpy()], axis=1)
        acted = acting.act(seen)
        active = trials.mask[t].bool().numpy()
        chosen = labels.head.to_env(
            torch.as_tensor(outputs[t].argmax(-1) if space == "discrete" else outputs[t])
        )
        np.testing.assert_allclose(chosen[active], acted[active], atol=1e-5)
        after = trials.rows[t + 1].numpy()
        ended = after[:, part.episode_end.start] > 0
        taken = agent.network.action_head.to_env(trials.actions[t])
        rewards = after[:, part.reward.start]
        acting.observe(Transition(seen, taken, rewards, ended, np.zeros_like(ended), seen, active))


@pytest.mark.parametrize("name", ["bandit-flip", "gridnavi", "alchemy"])
def test_a_teacher_sees_the_task_of_the_moment(name):
    tasks = envs.make(name, changing=name != "bandit-flip")
    env, n = tasks.oracle().make_vec(5), 5
    env.set_tasks(tasks.sample("train", n, 0))
    with contextlib.closing(tasks.make_vec(1)) as plain:
        part = TrialInput(plain.single_observation_space, plain.single_action_space)
    num_steps, rng = env.horizon * tasks.episodes_per_trial, np.random.default_rng(0)
    rows, ended = np.zeros((num_steps, n, part.size), dtype=np.float32), np.zeros(n)
    observations, _ = env.reset(seed=0)
    seen = []
    for step in range(num_steps):
        seen.append(observations)
        rows[step, :, part.observation] = observations[:, part.observation]
        rows[step, :, part.episode_end.start] = ended
        actions = rng.integers(env.single_action_space.n, size=n)
        observations, _, terminated, truncated, _ = env.step(actions)
        ended = terminated | truncated
    task = torch.from_numpy(tasks.encode(env.tasks))
    trials = SimpleNamespace(rows=torch.from_numpy(rows), task=task)
    made = OracleRows(tasks, part)(trials)
    expected = np.stack(seen)
    np.testing.assert_allclose(made[..., : expected.shape[-1]], expected, atol=1e-6)
    assert (expected[0] != expected[-1]).any(axis=1).all()


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_the_loss_is_the_divergence_from_the_teacher(space):
    torch.manual_seed(0)
    action_space = BOX if space == "box" else spaces.Discrete(3)
    head = action_head(action_space)
    k, shape = head.num_outputs, (5, 4)
    outputs = torch.randn(*shape, k, requires_grad=True)
    log_std = torch.tensor([0.3, -0.4]) if space == "box" else None
    labels = ActionLabels(head, torch.randn(*shape, k), None if log_std is None else log_std - 0.5)
    mask = (torch.rand(shape) < 0.7).float()
    values = torch.zeros(shape)
    actions = head.distribution(outputs, log_std).sample()
    batch = Batch(
        *(torch.zeros(*shape, 1), torch.zeros(*shape, 0), torch.zeros(4, 1), actions),
        *(torch.zeros(shape), torch.randn(shape), values, values, mask, labels),
    )

    def network(rows, pixels, task):
        return TrialOutputs(head.distribution(outputs, log_std), values)

    loss, measured = ppo_loss(network, batch, TrialPPOConfig())
    expected = []
    for t in range(5):
        for n in range(4):
            if not mask[t, n]:
                continue
            if space == "discrete":
                p, q = (o[t, n].softmax(-1).tolist() for o in (labels.outputs, outputs))
                expected.append(sum(a * np.log(a / b) for a, b in zip(p, q)))
            else:
                total = 0.0
                for i in range(k):
                    s, r = float((log_std[i] - 0.5).exp()), float(log_std[i].exp())
                    gap = float(labels.outputs[t, n, i] - outputs[t, n, i].detach())
                    total += np.log(r / s) + (s**2 + gap**2) / (2 * r**2) - 0.5
                expected.append(total)
    np.testing.assert_allclose(loss.item(), np.mean(expected), rtol=1e-5)
    assert measured[0] == loss
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert (gradient[mask == 0] == 0).all()
    assert (gradient[mask == 1] != 0).all()


# Imitation.


class Knowing(RL2):
    """Plays the arm that it sees to be the better one: 0 earns 0.55, 1 pays 1 in some tasks."""

    def action_labels(self, rows, pixels):
        pays = rows[..., 1:2]  # -1 or 1, behind the one-hot observation
        return ActionLabels(self.network.action_head, torch.cat([-9 * pays, 9 * pays], -1), None)


def learned(share, num_iterations=30):
    family = risk(6)
    agent = student(
        family,
        teacher_share=share,
        trials_per_iteration=64,
        trials_per_minibatch=32,
        learning_rate=1e-2,
        anneal=True,
        gamma=1.0,
        gae_lambda=1.0,
        ent_coef=0.05,
        policy_kwargs={"hidden_size": 16},
    )
    agent.set_teacher(Knowing(family.oracle(), seed=0))
    return agent.learn(64 * 6 * num_iterations)


def test_a_student_imitates_as_far_as_it_can_know():
    # Six pulls. A student that does not know the task plays what teachers of both tasks do, half
    # and half; after a risk it knows. That earns 6 * 0.775 - 0.25 * (1 + 1/2 + ... + 1/32) = 4.16.
    # With the labels of other trials' tasks it never knows: 3.15. PPO alone is at 3.3 by then.
    report = evaluate(learned(1.0), risk(6), num_tasks=400)
    assert 4.0 < report.trial_returns.mean() < 4.3
    assert abs(report.returns[:, 0].mean() - 0.525) < 0.06


def test_imitation_then_ppo():
    # The best of all takes the risk at once: 4.43. Imitation stays at half and half: 4.16.
    report = evaluate(learned(0.5), risk(6), num_tasks=400)
    assert report.trial_returns.mean() > 4.25


def test_the_log_says_what_was_learned_from_and_the_critic_learns_all_the_time(tmp_path):
    agent = student(
        strolls(),
        teacher_share=0.6,
        trials_per_iteration=16,
        learning_rate=1e-2,
        n_epochs=6,
    )
    agent.set_teacher(TEACHERS["multi-task"](strolls().oracle()))
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(1500)
    agent.logger.close()
    rows = rows_of(tmp_path / "progress.csv")
    taught = [bool(row["train/teacher_kl"]) for row in rows]
    steps = [int(float(row["time/total_timesteps"])) for row in rows]
    assert taught == [before < 0.6 * 1500 for before in [0, *steps[:-1]]]
    assert [bool(row["train/policy_loss"]) for row in rows] == [not each for each in taught]
    explained = [float(row["train/explained_variance"]) for row in rows]
    assert explained[0] < 0.2
    assert explained[taught.index(False) - 1] > 0.5


@pytest.mark.parametrize("kind", TEACHERS)
def test_resumed_to_the_bit(kind, tmp_path):
    tasks = strolls()
    teacher = TEACHERS[kind](tasks.oracle())
    before = tensors(teacher)
    agents = [student(tasks, teacher_share=0.7) for _ in range(2)]
    for agent in agents:
        agent.set_teacher(teacher)
    agents[0].learn(400)
    stop = lambda locals_, globals_: agents[1].num_timesteps < 200  # noqa: E731
    agents[1].learn(400, callback=stop)
    agents[1].save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", tasks)
    evaluate(loaded, tasks, num_tasks=2)  # for this it needs no teacher
    left = 400 - loaded.num_timesteps
    with pytest.raises(ValueError, match=r"teacher_share is 0\.7 and there is no teacher; call s"):
        loaded.learn(left, reset_num_timesteps=False)
    loaded.set_teacher(teacher)
    loaded.learn(left, reset_num_timesteps=False)
    assert loaded.num_timesteps == agents[0].num_timesteps > 400 * 0.7
    assert same(tensors(agents[0]), tensors(loaded))
    assert same(before, tensors(teacher))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: "run", TypeError, "trained agent, or a reference that can teach, got 'run'"),
        (
            lambda: MultiTask(risk()),
            ValueError,
            r"must have been trained on risk \(oracle\), got one of risk; train it with: metarl",
        ),
        (lambda: MultiTask(aim().oracle()), ValueError, r"got one of aim \(oracle\); train it"),
        (lambda: MultiTask(replace(aim(), name="risk").oracle()), ValueError, "another action_sp"),
    ],
)
def test_who_cannot_be_a_teacher(make, error, match):
    with pytest.raises(error, match=match):
        student(risk()).set_teacher(make())


def test_who_cannot_have_a_teacher():
    teacher = MultiTask(risk().oracle())
    with pytest.raises(ValueError, match="teacher_share is 0, so nothing would be learned"):
        student(risk(), teacher_share=0.0).set_teacher(teacher)
    with pytest.raises(ValueError, match="a student must not observe the task"):
        student(risk().oracle()).set_teacher(teacher)
    with pytest.raises(TypeError, match="multi-task learns from no teacher; rl2 does"):
        MultiTask(risk()).set_teacher(teacher)
    agent = student(risk())
    agent.set_teacher(MAML(risk().oracle()))
    with pytest.raises(TypeError, match="MAML cannot be a teacher; multi-task and rl2 can"):
        agent.learn(1)


# From the command line.

TRAIN = ["train", "rl2", "bandit-10x5", *SMALL, "--teacher"]


@pytest.fixture
def oracle(tmp_path, monkeypatch):
    """A run of an oracle, in the folder that tests run in."""
    monkeypatch.chdir(tmp_path)
    words = ["train", "multi-task", "bandit-10x5", "--oracle", "--run-dir", "oracle"]
    with small_evaluations():
        quick = ["--total-timesteps", "100", "--set", "num_envs=256", "--set", "n_epochs=1"]
        assert main([*words, *quick]) == 0
        yield Path("oracle")


def test_a_stopped_run_goes_on_with_its_own_copy_of_the_teacher(oracle, monkeypatch, capsys):
    assert main([*TRAIN, "oracle", "--run-dir", "whole"]) == 0
    config = json.loads(Path("whole/config.json").read_text())
    steps = config["teacher"]["env_steps"]
    assert steps >= 100
    assert config["teacher"]["agent"] == "oracle/agent.safetensors"
    assert config["hyperparameters"]["teacher_share"] == 1.0
    update, calls = RL2.update, []

    def interrupted(self, experience):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        update(self, experience)

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(RL2, "update", interrupted)
        # A saved agent will do as well as a run.
        assert main([*TRAIN, "oracle/agent.safetensors", "--run-dir", "stopped"]) == 130
    oracle.rename("gone")
    Path("stopped").rename("moved")
    copy = Path("moved/teacher.safetensors")
    content = copy.read_bytes()
    copy.write_bytes(Path("whole/agent.safetensors").read_bytes())
    capsys.readouterr()
    assert "is another teacher than the training began with" in refusal(["resume", "moved"], capsys)
    copy.write_bytes(content)
    assert main(["resume", "moved"]) == 0
    for name in ("agent.safetensors", "evaluation/held_out.npz"):
        assert Path("whole", name).read_bytes() == Path("moved", name).read_bytes()
    words = shlex.join(["metarl", *TRAIN, "oracle"])
    edit(Path("moved"), lambda config: config.update(command=words))
    record = publish(Run.open("moved"), Path("record.npz"))
    (row,) = table([load_training(record)]).splitlines()[2:]
    assert f"taught by `agent` ({steps / 1e6:.1f}M)" in row
    assert "earlier preset" not in row
    edit(Path("moved"), lambda config: config.update(teacher="oracle"))
    capsys.readouterr()
    assert "'teacher' must be a saved agent, its SHA-256, and the env steps" in (
        refusal(["evaluate", "moved"], capsys)
    )


def test_what_cannot_be_taught(oracle, capsys):
    assert main(["train", "rl2", "bandit-10x5", *SMALL, "--run-dir", "plain"]) == 0
    capsys.readouterr()
    for words, message in (
        ([*TRAIN, "plain"], "trained on bandit-10x5 (oracle), got one of bandit-10x5; train it"),
        ([*TRAIN, "none"], "'none' is not a run directory"),
        ([*TRAIN, "oracle", "--oracle"], "a student must not observe the task"),
        ([*TRAIN, "oracle", "--set", "teacher_share=0"], "teacher_share is 0, so nothing would"),
        ([*TRAIN[:-1], "--set", "teacher_share=1"], "there is no teacher; pass --teacher RUN"),
        (
            ["train", "rl2", "bandit-10x2", "--teacher", "oracle"],
            "must have been trained on bandit-10x2 (oracle), got one of bandit-10x5 (oracle)",
        ),
        (
            ["train", "maml", "bandit-10x5", "--teacher", "oracle"],
            "maml learns from no teacher, got --teacher oracle: leave it out, or train rl2",
        ),
    ):
        assert message in refusal(words, capsys)
    assert not Path("runs").exists()


def test_a_reference_teaches_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    students = []
    monkeypatch.setattr(commands, "_train", lambda run, learner: students.append(learner) or [])
    words = ["train", "rl2", "bandit-flip", *SMALL, "--teacher"]
    assert main([*words, "known-best-arm", "--run-dir", "taught"]) == 0
    config = Run.open(Path("taught")).config
    assert config["teacher"] == {"agent": "known-best-arm", "env_steps": 0}
    assert config["hyperparameters"]["teacher_share"] == 1.0
    assert main(["resume", "taught"]) == 0
    assert [type(student._teacher) for student in students] == [KnownBestArm] * 2
    students[1].learn(1600)
    capsys.readouterr()
    assert "'sliding-window-ucb' cannot teach" in refusal([*words, "sliding-window-ucb"], capsys)
    for wrong in ({"agent": "known-best-arm", "env_steps": 5}, {"agent": 3, "env_steps": 0}):
        edit(Path("taught"), lambda config, wrong=wrong: config.update(teacher=wrong))
        assert "or the name of a reference" in refusal(["resume", "taught"], capsys)
