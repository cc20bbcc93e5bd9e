"""A study's jobs on a Ray cluster of this machine: the same records as from local processes."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import ray
from test_study_engine import records

from metarl.experiments.cli import main as cli
from metarl.experiments.studies import find_study, on_ray
from metarl.experiments.studies.engine import Engine
from metarl.experiments.studies.jobs import jobs_of, perform, places_for

STUDY = """
from metarl.experiments.studies.study import EvalSpec, Learner, Study

RL2 = Learner("RL²", "rl2", "bandit-10x5", hyperparameters={{
    "trials_per_iteration": 8, "trials_per_minibatch": 8, "policy_kwargs": {{"hidden_size": 8}},
}})
EVALUATION = EvalSpec("pulls", "bandit-10x5", [RL2], num_tasks=4, num_episodes=4)
study = Study("toy", "Who?", [EVALUATION], range({seeds}), total_timesteps={steps})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a study, which the workers find too: they inherit the path of modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield tmp_path
    ray.shutdown()
    sys.modules.pop("ray_study", None)


def in_processes_of_ours(folder, monkeypatch):
    """Return the records that the jobs leave without Ray."""
    (folder / "apart").mkdir()
    monkeypatch.chdir(folder / "apart")
    places = places_for(1.0, None)
    for job in jobs_of(find_study("ray_study:study"), places):
        assert perform(job)
    found = records(places)
    monkeypatch.chdir(folder)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_study_on_ray_leaves_the_records_of_local_processes(shared, folder, monkeypatch):
    (folder / "ray_study.py").write_text(STUDY.format(seeds=2, steps=2000))
    expected = in_processes_of_ours(folder, monkeypatch)
    if not shared:  # what a worker of another machine sees
        start = on_ray.Cluster.start

        def elsewhere(self, job, log):
            self._token.unlink(missing_ok=True)
            return start(self, job, log)

        monkeypatch.setattr(on_ray.Cluster, "start", elsewhere)
    assert cli.main(["study", "ray_study:study", "--ray", "local"]) == 0
    assert records(places_for(1.0, None)) == expected
    assert (Path("runs/studies/trainings").exists()) == shared
    logs = Path("runs/studies/logs/train-rl2-bandit-10x5-2000-seed0.txt")
    assert not list(Path("runs/studies").glob("ray-*"))
    assert any("trained for" in log.read_text() for log in logs.parent.iterdir())


@pytest.mark.slow
def test_what_a_job_raises_is_in_its_log(folder, capsys):
    text = STUDY.format(seeds=1, steps=2000).replace('"bandit-10x5", hyper', '"bandit-9", hyper')
    (folder / "ray_study.py").write_text(text)
    assert cli.main(["study", "ray_study:study", "--ray", "local"]) == 2
    said = capsys.readouterr().err
    assert "1 jobs failed" in said
    (log,) = Path("runs/studies/logs").iterdir()
    assert "bandit-9" in log.read_text()


def test_nobody_answers(folder, capsys):
    (folder / "ray_study.py").write_text(STUDY.format(seeds=1, steps=2000))
    assert cli.main(["study", "ray_study:study", "--ray", "auto"]) == 2
    assert "no Ray cluster answers at 'auto'" in capsys.readouterr().err


def test_without_ray(folder, monkeypatch, capsys):
    (folder / "ray_study.py").write_text(STUDY.format(seeds=1, steps=2000))
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["study", "ray_study:study", "--ray", "local"]) == 2
    assert "pip install 'metarl-suite[ray]'" in capsys.readouterr().err


@pytest.mark.slow
def test_twenty_jobs_of_which_three_are_killed_leave_the_same_records(folder, monkeypatch):
    (folder / "ray_study.py").write_text(STUDY.format(seeds=10, steps=60_000))
    expected = in_processes_of_ours(folder, monkeypatch)
    places = places_for(1.0, None)
    cluster = on_ray.Cluster("local", "ray_study:study", 1.0, places)
    engine = Engine(find_study("ray_study:study"), places, 2, cluster.start)
    assert len(engine.jobs) == 20
    victims = set()
    step = Engine._step

    def killing(self):
        on = step(self)
        logs = [task for task in self._running if task.job.key.startswith("train")]
        begun = [t for t in logs if t.job.run_directory.joinpath("progress.csv").exists()]
        for task in begun:
            if len(victims) < 3 and task.job.key not in victims and workers():
                victims.add(task.job.key)
                os.kill(workers()[0], signal.SIGKILL)
                time.sleep(1.0)
        return on

    monkeypatch.setattr(Engine, "_step", killing)
    engine.run()
    cluster.close()
    assert len(victims) == 3
    assert records(places) == expected


def workers():
    """Return the processes in which Ray does a job now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::do"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
