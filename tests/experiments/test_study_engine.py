"""The engine of studies, at toy size: what it runs, that it runs it once, and what kills leave."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from command_line import edit_archive, small_evaluations

from metarl import envs, evaluate
from metarl.agents import MAML, MultiTask
from metarl.agents.classical.random_actions import RandomActions
from metarl.agents.presets import find_preset
from metarl.agents.sb3.fine_tune import FineTune
from metarl.evaluation.archive import read_archive
from metarl.experiments.cli import main as cli
from metarl.experiments.runs.records import load_evaluation, load_training
from metarl.experiments.studies import STUDIES, find_study
from metarl.experiments.studies.engine import Engine
from metarl.experiments.studies.jobs import (
    EvaluationJob,
    TrainingJob,
    command_of,
    jobs_of,
    perform,
    places_for,
)
from metarl.experiments.studies.results import figure_over_learners, write_results
from metarl.experiments.studies.study import EvalSpec, Learner, Recording, Study
from metarl.files import locked

SMALL_PPO = {"policy_kwargs": {"hidden_sizes": [8]}, "num_envs": 256, "n_epochs": 1}
MULTI_TASK = Learner("multi-task", "multi-task", "bandit-10x5", hyperparameters=SMALL_PPO)
RL2 = Learner(
    "RL²",
    "rl2",
    "bandit-10x5",
    hyperparameters={
        "trials_per_iteration": 64,
        "trials_per_minibatch": 64,
        "policy_kwargs": {"hidden_size": 8},
    },
)
FURTHER = Learner(
    "further", "multi-task", "bandit-10x5", None, 500, SMALL_PPO, start=MULTI_TASK, variant="more"
)
FINE_TUNE = Learner(
    "fine-tune",
    "fine-tune",
    "bandit-10x5",
    trained_as="multi-task",
    hyperparameters=SMALL_PPO,
    adaptation={"episodes_per_adaptation": 2},
)
ORACLE = replace(MULTI_TASK, label="oracle", view={"oracle": True})
TAUGHT = replace(RL2, label="taught", variant="taught", teacher=ORACLE)
RANDOM = Learner("random", "random")


def toy(*learners, seeds=(0,), name="toy", **options):
    evaluation = EvalSpec("pulls", "bandit-10x5", learners, num_tasks=4, num_episodes=4, **options)
    return Study(name, "Who?", [evaluation], seeds, total_timesteps=3000)


TOY = toy(RL2, MULTI_TASK, seeds=(0, 1))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def records(places):
    """Return all records by name, without what differs from one run to the next: times."""
    found = {}
    for path in sorted({*places.results.rglob("*.npz")} - {*places.results.rglob("tasks/*.npz")}):
        record, arrays = read_archive(path)
        record |= {name: array.tolist() for name, array in arrays.items()}
        for name in ("seconds", "training_seconds"):
            record.pop(name, None)
        found[path.relative_to(places.results).as_posix()] = record
    agents = {path.name: path.read_bytes() for path in places.trained.glob("*.safetensors")}
    return found, agents


def run_in_this_process(study):
    places = places_for(1.0, None)
    for job in jobs_of(study, places):
        assert perform(job)
    return places


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_whole(name):
    study = find_study(name)
    assert study.name == name
    for evaluation in study.evaluations:
        learners = evaluation.learners
        family = envs.make(evaluation.family)
        tasks = evaluation.tasks(family)
        assert len({learner.label for learner in learners}) == len(learners)
        for parameter, values in evaluation.values.items():
            column = tasks.columns[parameter]
            assert [np.isclose(column, v).sum() for v in values] == [evaluation.num_tasks] * len(
                values
            )
        for select in evaluation.groups.values():
            assert select(tasks.columns).any()
        env = family.make_vec(len(tasks))
        env.set_tasks(tasks)
        for learner in learners:
            for seed in study.seeds:
                if training := learner.training(seed, study):
                    trained_on = envs.make(training.family, **training.view).make_vec(1)
                    expected = family.oracle() if training.view.get("oracle") else family
                    evaluated_on = expected.make_vec(1)
                    assert (
                        trained_on.single_observation_space == evaluated_on.single_observation_space
                    )
    keys = [job.key for job in jobs_of(study, places_for(1.0, None))]
    assert len(set(keys)) == len(keys)


def test_a_teacher_is_trained_first_and_its_env_steps_are_shown():
    study = replace(toy(TAUGHT), total_timesteps=200)
    with small_evaluations():
        places = run_in_this_process(study)
    oracle = "multi-task-bandit-10x5-oracle-0.0002M-seed0"
    jobs = [job.key for job in jobs_of(study, places)]
    assert jobs[:2] == [f"train {oracle}", "train rl2-bandit-10x5-taught-0.0002M-seed0"]
    record, _ = read_archive(places.trained / "rl2-bandit-10x5-taught-0.0002M-seed0.npz")
    teacher, _ = read_archive(places.trained / f"{oracle}.npz")
    assert record["config"]["teacher"]["env_steps"] == teacher["env_steps"] > 0
    page = write_results(study, places)[0].read_text()
    assert f"--teacher {oracle}.safetensors` | 0.0M, teacher 0.0M |" in page


def test_a_training_on_histories_is_preceded_by_their_recording():
    small = {"batch_size": 4, "policy_kwargs": {"hidden_size": 8}}
    oracle = replace(RL2, label="oracle", view={"oracle": True})
    pulls = Recording("thompson-sampling", 6)
    fading = Recording(oracle, 6, 3, noise=(1.0, 0.0), labels=oracle)
    learners = [
        Learner("AD", "ad", "bandit-10x5", data=pulls, hyperparameters=small),
        Learner(
            "DPT",
            "dpt",
            "bandit-10x5",
            data=fading,
            hyperparameters={**small, "num_episodes": 3},
        ),
        Learner("source", "thompson-sampling"),
    ]
    evaluation = EvalSpec("pulls", "bandit-10x5", learners, num_tasks=4, num_episodes=4)
    study = Study("logs", "?", [evaluation], (0,), total_timesteps=2)
    places = run_in_this_process(study)
    jobs = {job.key: job for job in jobs_of(study, places)}
    assert [key for key in jobs if key.startswith("train")] == [
        "train ad-bandit-10x5-2-gradient-steps-seed0",
        "train rl2-bandit-10x5-oracle-2e-06M-seed0",
        "train dpt-bandit-10x5-2-gradient-steps-seed0",
    ]
    assert all(job.done for job in jobs.values())
    trained = load_training(places.trained / "dpt-bandit-10x5-2-gradient-steps-seed0.npz")
    assert trained["gradient_steps"] == 2
    assert trained["config"]["command"].startswith(
        "metarl record rl2-bandit-10x5-oracle-2e-06M-seed0 bandit-10x5 --output data --seed 0 "
        "--num-tasks 6 --num-episodes 3 --noise-from 1 --noise-to 0 --labels rl2-bandit-10x5-or"
    )
    page = write_results(study, places)[0].read_text()
    assert "| 2 gradient steps on 6 histories |" in page
    assert Engine(study, places, 1).missing() == []


def test_the_command_runs_what_is_missing_in_processes_and_shows_it(tmp_path, capsys):
    (tmp_path / "my_study.py").write_text(
        "from metarl.experiments.studies.study import EvalSpec, Learner, Study\n"
        f"learner = Learner('RL²', 'rl2', 'bandit-10x5', hyperparameters={RL2.hyperparameters!r})\n"
        "learners = [learner, Learner('random', 'random')]\n"
        "evaluation = EvalSpec('pulls', 'bandit-10x5', learners, num_tasks=4, num_episodes=4)\n"
        "study = Study('mine', 'Does it?', [evaluation], (0,), total_timesteps=3000)\n"
    )
    command = ["study", "my_study:study"]
    assert cli.main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "mine: 3 of 3 jobs are missing" in shown
    assert "rl2-bandit-10x5-0.003M-seed0" in shown
    assert not (tmp_path / "runs").exists()
    places = places_for(1.0, None)
    for job in jobs_of(find_study("my_study:study"), places)[:2]:  # a process each takes seconds
        assert perform(job)
    assert cli.main(command) == 0
    before = records(places)
    assert len(before[0]) == 3
    page = (tmp_path / "docs/results/mine.md").read_text()
    assert "Does it?" in page
    assert "| RL² | 0 |" in page
    assert "metarl train rl2 bandit-10x5 --seed 0 --total-timesteps 3000" in page
    assert (tmp_path / "docs/results/mine-pulls-episodes.png").stat().st_size > 10_000
    capsys.readouterr()
    assert cli.main(command) == 0
    assert "3 of 3 jobs are done" in capsys.readouterr().out
    assert records(places) == before


def test_what_learners_differ_in_is_the_axis_of_a_figure():
    (evaluation,) = toy().evaluations
    family = envs.make("bandit-10x5")
    played = [evaluate(RandomActions(family), family, num_tasks=9, seed=seed) for seed in range(3)]
    reports = {
        Learner("1 training task", "rl2"): [(0, played[0]), (1, played[1])],
        Learner("all tasks", "rl2"): [(0, played[2])],
    }
    (axes,) = figure_over_learners(evaluation, "training tasks", reports).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "all"]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    for label, episode in (("first episode", 0), ("last episode", -1)):
        means = [report.returns[:, episode].mean() for report in played]
        assert lines[label] == pytest.approx([(means[0] + means[1]) / 2, means[2]])


def test_each_seed_draws_its_own_training_tasks():
    few = Learner("few", "rl2", "bandit-10x5", view={"num_train_tasks": 4})
    first, third = (few.training(seed, TOY) for seed in (0, 2))
    assert (first.view, third.view) == (few.view, {"num_train_tasks": 4, "train_tasks_seed": 2})
    assert third.name == "rl2-bandit-10x5-4tasks-draw2-0.003M-seed2"
    assert "--num-train-tasks 4 --train-tasks-seed 2 --seed 2" in command_of(third)
    assert "train_tasks_seed" not in Learner("all", "rl2", "bandit-10x5").training(2, TOY).view


def test_the_control_without_memory_has_all_else_of_its_agent():
    own = Learner("RL², slopes", "rl2", "half-cheetah-slope", variant="own")
    control = own.without_memory()
    assert (control.label, control.variant) == ("RL², without memory", "own-no-memory")
    preset = find_preset("rl2", "half-cheetah-slope").hyperparameters["policy_kwargs"]
    assert control.hyperparameters == {"policy_kwargs": {**preset, "memory": "none"}}
    episodic = Learner("RL²", "rl2", "tabular-mdp-10").without_memory()
    assert "memory_kwargs" not in episodic.hyperparameters["policy_kwargs"]
    assert episodic.hyperparameters["policy_kwargs"]["head"] == [64]


def test_what_is_evaluated_is_the_trained_agent_on_the_declared_tasks():
    study = toy(MULTI_TASK, FINE_TUNE, RANDOM)
    places = run_in_this_process(study)
    (training,) = {job.training.name for job in jobs_of(study, places) if type(job) is TrainingJob}
    tasks = envs.make("bandit-10x5")
    for learner, agent_class, settings in (
        (MULTI_TASK, MultiTask, {}),
        (FINE_TUNE, FineTune, FINE_TUNE.adaptation),
    ):
        job = EvaluationJob(study, study.evaluations[0], learner, 0, places)
        record = load_evaluation(job.record)
        assert record["training"] == training
        agent = agent_class.load(places.trained / training, tasks, **settings)
        own = evaluate(agent, tasks, num_tasks=4, num_episodes=4, seed=2)
        assert np.array_equal(record["report"].returns, own.returns)


def test_inner_steps_are_evaluated_beside_a_papers():
    small = {"meta_batch_size": 2, "policy_kwargs": {"hidden_sizes": [8]}}
    learners = (
        Learner("MAML", "maml", "bandit-10x5", hyperparameters=small),
        Learner("untrained", "maml"),
    )
    options = {"statistic": "iqm", "published": {"MAML": (2.5, 3.5)}}
    study = toy(*learners, seeds=(0, 1), episodes_per_adaptation=1, **options)
    places = run_in_this_process(study)
    evaluated = [job for job in jobs_of(study, places) if isinstance(job, EvaluationJob)]
    expected = [("MAML", 0), ("untrained", 0), ("MAML", 1), ("untrained", 1)]
    assert [(job.learner.label, job.seed) for job in evaluated] == expected
    reports = [load_evaluation(job.record)["report"] for job in evaluated]
    tasks = envs.make("bandit-10x5")
    agent = MAML.load(places.agent(evaluated[0].needs[0].training), tasks)
    assert agent.episodes_per_adaptation > 1
    own = evaluate(agent, tasks, num_tasks=4, num_episodes=4, episodes_per_adaptation=1, seed=2)
    assert np.array_equal(reports[0].returns, own.returns)
    assert reports[0].statistic == "iqm" != own.statistic
    assert not np.array_equal(reports[1].returns, reports[3].returns)
    page = write_results(study, places)[0].read_text()
    assert "| MAML, published |  | 2.5 | 3.5 | 3.5 |  |  |" in page
    assert "interquartile mean over tasks" in page


def test_a_training_can_start_from_anothers_agent():
    study = toy(FURTHER)
    places = run_in_this_process(study)
    jobs = jobs_of(study, places)
    assert [job.key.partition(" ")[0] for job in jobs] == ["train", "train", "evaluate"]
    config = load_training(jobs[1].record)["config"]
    assert config["start"] == str(places.agent(jobs[0].training))
    first = MultiTask.load(places.agent(jobs[0].training), envs.make("bandit-10x5"))
    fresh = MultiTask(envs.make("bandit-10x5"), seed=0, **SMALL_PPO)
    fresh.start_from(places.agent(jobs[0].training))
    assert fresh.num_timesteps == 0
    for name, weights in first.policy.state_dict().items():
        assert (fresh.policy.state_dict()[name] == weights).all()


def test_agents_that_were_not_kept_are_missing_only_where_they_are_needed():
    study = toy(FURTHER)
    places = run_in_this_process(study)
    first, further, evaluated = jobs_of(study, places)
    page = write_results(study, places)[0].read_text()
    for job in (first, further):
        places.agent(job.training).unlink()
    assert Engine(study, places, 1).missing() == []
    assert write_results(study, places)[0].read_text() == page
    evaluated.record.unlink()
    assert Engine(study, places, 1).missing() == [first, further, evaluated]


def test_records_of_the_same_tasks_share_them():
    study = toy(RANDOM, Learner("at random", "random"))
    places = run_in_this_process(study)
    folder = places.results / "toy" / "pulls"
    assert len(list(folder.glob("*.npz"))) == 2
    (shared,) = (folder / "tasks").iterdir()
    tasks = np.load(shared)["tasks/p"]
    for job in jobs_of(study, places):
        assert job.leaves == [shared, job.record]
        assert np.array_equal(job.report().tasks.columns["p"], tasks)
        assert "tasks/p" not in np.load(job.record)


def test_a_record_of_another_training_is_not_taken_for_this_one():
    places = run_in_this_process(toy(RL2))
    record = next(job.record for job in jobs_of(toy(RL2), places) if type(job) is TrainingJob)
    edit_archive(record, {"total_timesteps": 1}, lambda header: header["config"])
    with pytest.raises(ValueError, match="is of another training"):
        Engine(toy(RL2), places, 1)


def test_an_evaluation_of_another_training_is_not_taken_for_this_one():
    places = run_in_this_process(toy(RL2))
    longer = replace(toy(RL2), total_timesteps=6000)  # the page would show the shorter training
    with pytest.raises(ValueError, match="is of another agent: expected the training 'rl2-bandit"):
        Engine(longer, places, 1)


def test_a_record_of_other_tasks_is_not_taken_for_these():
    study = toy(RANDOM)
    places = run_in_this_process(study)
    other = replace(study, evaluations=[replace(study.evaluations[0], num_tasks=5)])
    with pytest.raises(ValueError, match="is of another evaluation"):
        Engine(other, places, 1)


def test_a_job_that_another_process_does_is_left_to_it():
    places = places_for(1.0, None)
    job = jobs_of(toy(RANDOM), places)[0]
    lock = places.work / "locks" / job.file_name
    lock.parent.mkdir(parents=True)
    with locked(lock) as mine:
        assert mine
        assert not perform(job)
        assert not job.record.exists()
    assert perform(job)
    assert job.record.exists()


def test_a_job_that_fails_ends_the_study_with_its_log(tmp_path, capsys):
    (tmp_path / "broken.py").write_text(
        "from metarl.experiments.studies.study import EvalSpec, Learner, Study\n"
        "learner = Learner('RL²', 'rl2', 'bandit-10x5', hyperparameters={'learning_rate': -1})\n"
        "study = Study('broken', '?', [EvalSpec('pulls', 'bandit-10x5', [learner])], seeds=(0,))\n"
    )
    assert cli.main(["study", "broken:study", "--processes", "1"]) == 2
    error = capsys.readouterr().err
    assert "1 jobs failed" in error
    log = next((tmp_path / "runs/studies/logs").iterdir())
    assert "learning_rate" in log.read_text()
    assert not (tmp_path / "docs").exists()


def test_part_of_the_budget_goes_to_a_folder_of_its_own():
    assert places_for(0.5, None).results != places_for(1.0, None).results
    half = TOY.scaled(0.5)
    assert half.evaluations[0].learners[0].training(0, half).total_timesteps == 1500


@pytest.mark.slow
def test_a_study_killed_many_times_and_two_engines_end_with_the_same_records(tmp_path):
    """Twenty kills at random moments of everything that an engine has started."""
    (tmp_path / "toys.py").write_text("from test_study_engine import TOY as study\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(folder):
        command = [sys.executable, "-m", "metarl.experiments.cli.main", "study", "toys:study"]
        folder.mkdir(exist_ok=True)
        (folder / "toys.py").write_text("from test_study_engine import TOY as study\n")
        return subprocess.Popen(command, cwd=folder, env=environment)

    assert start(tmp_path / "whole").wait() == 0
    choices = random.Random(0)
    for _ in range(20):
        engine = start(tmp_path / "killed")
        time.sleep(choices.uniform(2.0, 15.0))
        children = subprocess.run(
            ["pgrep", "-P", str(engine.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        for process in (engine.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        engine.wait()
    engines = [start(tmp_path / "killed") for _ in range(2)]
    assert [engine.wait() for engine in engines] == [0, 0]
    os.chdir(tmp_path / "whole")
    expected = records(places_for(1.0, None))
    os.chdir(tmp_path / "killed")
    assert records(places_for(1.0, None)) == expected
