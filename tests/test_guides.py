"""The guides: their scripts run as written, and their tables say what is logged."""

import re
import runpy
import sys
from dataclasses import replace

import pytest
from command_line import small_evaluations
from documents import DOCS, README, example
from stable_baselines3.common.logger import KVWriter, Logger

from metarl.agents import MAML, RL2, EvaluationCallback, MultiTask, VariBAD
from metarl.envs import navigation_2d
from metarl.experiments.cli.main import main
from metarl.experiments.studies import find_study
from metarl.experiments.studies.jobs import EvaluationJob, jobs_of, perform, places_for
from metarl.experiments.studies.results import write_results


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    for module in ("my_study", "my_tasks"):  # other tests have modules of these names
        sys.modules.pop(module, None)


def test_the_training_script(tmp_path):
    (tmp_path / "script.py").write_text(example("script.py", DOCS / "training.md"))
    shown = runpy.run_path("script.py")
    assert shown["report"].returns.shape == (400, 10)
    assert shown["best"].iteration % 5 == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        *("tensorboard", "best.safetensors", "final.safetensors", "report")
    }
    (tmp_path / "read.py").write_text(example("read.py", DOCS / "training.md"))
    read = runpy.run_path("read.py")["archive"]
    assert (read["returns"] == shown["report"].returns).all()


def test_a_script_that_was_stopped_goes_on_to_the_same_agent(tmp_path):
    (tmp_path / "resumable.py").write_text(example("resumable.py", DOCS / "resume.md"))
    whole = runpy.run_path("resumable.py")["agent"]
    assert whole.num_timesteps == 20_000
    checkpoints = sorted(tmp_path.glob("checkpoints/*"), key=lambda path: path.stat().st_mtime)
    assert len(checkpoints) == 4
    for checkpoint in checkpoints[1:]:
        checkpoint.unlink()
    resumed = runpy.run_path("resumable.py")["agent"]
    assert resumed.num_timesteps == 20_000
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert (one == other).all()


def test_evaluation_by_the_guide(tmp_path):
    page = DOCS / "evaluation.md"
    for name in ("report", "compare", "my_metrics.py", "changing"):
        (tmp_path / name).write_text(example(name, page))
    report = runpy.run_path("report")["report"]
    assert report.returns.shape == (200, 10)
    metric = runpy.run_path("my_metrics.py")["return_per_step"]
    assert report.table({"per step": metric}).columns[-1] == "per step"
    assert len(runpy.run_path("compare")["compared"].differences) == 1
    assert runpy.run_path("changing")["curve"].shape == (70,)


def test_learning_from_logs_by_the_guide(tmp_path):
    page = DOCS / "histories.md"
    commands = re.findall(r"^metarl (.*)$", page.read_text(), re.MULTILINE)
    assert main(commands[0].split()) == 0
    for name in ("read.py", "train.py"):
        (tmp_path / name).write_text(example(name, page))
    read = runpy.run_path("read.py")
    assert read["history"].returns.shape == (20,)
    assert read["batch"].rewards.shape == (3, 5)
    returns = runpy.run_path("train.py")["report"].returns
    assert returns[:, -5:].mean() > returns[:, :2].mean() + 0.05  # it learns in its context
    trainings = [words.split() for words in commands if words.startswith("train")]
    assert [words[1] for words in trainings] == ["ad", "dpt", "extensions.offline:Distillation"]
    for words in trainings:
        words[words.index("--total-gradient-steps") + 1] = "2"
        with small_evaluations():
            assert main(words) == 0


def test_a_study_of_ones_own(tmp_path):
    (tmp_path / "my_tasks.py").write_text(example("my_tasks.py", README))
    (tmp_path / "my_study.py").write_text(example("my_study.py", DOCS / "studies.md"))
    declared = find_study("my_study:study")
    few = {
        "rl2": {"trials_per_iteration": 2, "trials_per_minibatch": 2},
        "maml": {"meta_batch_size": 2, "episodes_per_adaptation": 2},
        "multi-task": {"num_envs": 8},
        "fine-tune": {"num_envs": 8},
    }
    learners = [
        replace(each, hyperparameters=few.get(each.agent, {}))
        for each in declared.evaluations[0].learners
    ]
    small = replace(
        declared,
        seeds=(0,),
        total_timesteps=1,
        evaluations=[
            replace(each, learners=learners, num_tasks=1, num_episodes=10)
            for each in declared.evaluations
        ],
    )
    places = places_for(1.0, tmp_path / "results")
    jobs = jobs_of(small, places)
    with small_evaluations():
        assert all(map(perform, jobs))
    evaluated = {job.learner.label for job in jobs if isinstance(job, EvaluationJob)}
    assert evaluated == {learner.label for learner in learners}
    page = write_results(small, places)[0]
    assert page == tmp_path / "results" / "poles.md"
    command = f"metarl study my_study:study --results {tmp_path / 'results'}"
    assert f"`{command}` runs what is missing" in page.read_text()


class Keys(KVWriter):
    """Gathers what is logged."""

    def __init__(self):
        self.names = set()

    def write(self, key_values, key_excluded, step=0):
        self.names |= set(key_values)

    def close(self):
        pass


def logged(agent):
    keys = Keys()
    agent.set_logger(Logger(None, [keys]))
    agent.learn(1, EvaluationCallback(num_tasks=1))
    return keys.names


def test_all_that_is_logged_is_explained_and_nothing_else():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", (DOCS / "logged.md").read_text(), re.M)
    explained = [
        (tag.replace("_K", r"_\d+").replace("NAME", r"\w+"), agents)
        for tags, agents in rows
        for tag in re.findall(r"`(.+?)`", tags)
    ]
    family = navigation_2d(horizon=3)
    small = {"meta_batch_size": 2, "policy_kwargs": {"hidden_sizes": (4,)}}
    trials = {"trials_per_iteration": 2, "trials_per_minibatch": 2}
    taught = RL2(family, teacher_share=1.0, task_prediction_coef=1.0, **trials)
    taught.set_teacher(MultiTask(family.oracle()))
    found = {
        "RL²": logged(RL2(family, **trials)) | logged(taught),
        "MAML": logged(MAML(family, learn_inner_lr="per_parameter", **small))
        | logged(MAML(family, outer="ppo", **small))
        | logged(MAML(family, outer="reptile", **small)),
        "VariBAD": logged(VariBAD(family, decode_state=True, **trials)),
        "multi-task": logged(MultiTask(family, num_envs=512, n_epochs=1)),
    }
    for agent, names in found.items():
        own = [tag for tag, agents in explained if agents == "all" or agent in agents.split(", ")]
        assert [name for name in names if not any(re.fullmatch(t, name) for t in own)] == []
        # Of no success do these environments tell, and a run's last evaluation comes later.
        elsewhere = ("success", "held_out/return_by_experience", "held_out/curve")
        expected = [tag for tag in own if not any(part in tag for part in elsewhere)]
        assert [tag for tag in expected if not any(re.fullmatch(tag, n) for n in names)] == []
