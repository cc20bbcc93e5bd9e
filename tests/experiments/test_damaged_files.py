"""Every kind of file that is read, damaged: it is read right, or refused in one sentence."""

import io
import json
import random
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from command_line import SMALL, edit_archive
from safetensors.torch import load, save

from metarl import MetarlError, Report, Tasks
from metarl.agents.presets import find_preset
from metarl.agents.training.checkpoint import checksum, load_checkpoint
from metarl.agents.training.preset import Preset
from metarl.evaluation.archive import _digest, write_archive
from metarl.experiments.cli import commands, comparing
from metarl.experiments.cli.main import main
from metarl.experiments.publish import published_table
from metarl.experiments.publish import runs as publish
from metarl.experiments.runs.loading import load_agent
from metarl.experiments.runs.run import Run
from metarl.experiments.studies import results as study_results
from metarl.experiments.studies.engine import Engine
from metarl.experiments.studies.jobs import EvaluationJob, Places, TrainingJob, load_reports
from metarl.experiments.studies.study import EvalSpec, Learner, Study
from metarl.experiments.tuning import results as tuning_results
from metarl.experiments.tuning import search, settings
from metarl.experiments.tuning.search import Search
from metarl.experiments.tuning.settings import Settings

FEW, MANY = 12, 60  # of each kind
NAME = "rl2-bandit-10x5-seed0"
PRESET = {"trials_per_iteration": 8, "trials_per_minibatch": 8}
VALUES = {"slope": (0.0, 1.0)}
SLOPES = np.array([0.0, 0.0, 1.0, 1.0])
TASKS_FILE = f"{_digest({'tasks/slope': SLOPES})}.npz"
STUDY = Study(
    "toy",
    "Who?",
    [
        EvalSpec(
            "slopes",
            "half-cheetah-slope",
            [Learner("RL²", "rl2", "bandit-10x5", total_timesteps=160)],
            VALUES,
            num_tasks=2,
            groups={"steep": lambda columns: columns["slope"] > 0.5},
        )
    ],
    seeds=(0, 1),
)
PLACES = Places(Path("results"), Path("work"), Path("pages"))
LEARNER = STUDY.evaluations[0].learners[0]
JOBS = [EvaluationJob(STUDY, STUDY.evaluations[0], LEARNER, seed, PLACES) for seed in (0, 1)]
TRAINING = TrainingJob(JOBS[0].needs[0].training, PLACES)


def read_published():
    publish.open_run(NAME)
    records = publish.load_results()
    publish.table(records)
    publish.highlights(records)
    list(published_table._rl2(records))


def read_study():
    Engine(STUDY, PLACES, 1).plan()
    evaluation = STUDY.evaluations[0]
    found = {k: v for k, v in load_reports(STUDY, evaluation, PLACES).items() if v}
    sections = [study_results._section(evaluation, found, [])] if found else []
    study_results.figure_over_learners(evaluation, "slope", found)
    study_results._page(STUDY, sections, PLACES)


def read_journal():
    found = Search(Settings("rl2", "bandit-10x5"), 3, None)
    found.say_finished()
    tuning_results.results(found.study, found.settings)


def read_log():
    logger = Run.open("run").logger(40)
    logger.record("time/total_timesteps", 50)
    logger.record("time/seconds", 0.1)
    logger.dump(50)
    publish.publish(Run.open("run"), Path("copy/record.npz"))


READERS = {
    "run/config.json": lambda: Run.open("run"),
    "run/agent.safetensors": lambda: load_agent(Run.open("run")),
    "run/evaluation/held_out.npz": lambda: comparing.common_reports([Run.open("run")], "held_out"),
    "run/progress.csv": read_log,
    "run/events.out.tfevents.0000000001": read_log,
    f"experiments/results/runs/{NAME}.npz": read_published,
    f"experiments/results/runs/{NAME}.safetensors": read_published,
    str(TRAINING.record): read_study,
    str(JOBS[0].record): read_study,
    str(JOBS[0].record.parent / "tasks" / TASKS_FILE): read_study,
    "runs/tune/rl2-bandit-10x5/journal.log": read_journal,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_small(patch.setattr)
        assert main(["train", "rl2", "bandit-10x5", *SMALL, "--run-dir", "run"]) == 0
        publish.publish(Run.open("run"))
        for job in JOBS:
            publish.publish(Run.open("run"), job.needs[0].record)
            edit_archive(job.needs[0].record, {"seed": job.seed}, lambda header: header["config"])
            report = Report(
                agent="RL²",
                family="half-cheetah-slope",
                split="slopes",
                returns=np.arange(8.0).reshape(4, 2),  # (tasks, episodes)
                lengths=np.full((4, 2), 5),
                tasks=Tasks("half-cheetah-slope", {"slope": SLOPES}),
                seed=2,
            )
            header, arrays = report.to_archive()
            about = {"seconds": 1.0, "training": job.needs[0].training.name, "report": header}
            write_archive(job.record, about, arrays, compact=True)
        found = Search(Settings("rl2", "bandit-10x5"), 3, None).study
        for number in range(3):
            trial = found.ask({} if number else None)
            trial.set_user_attr("hyperparameters", PRESET)
            trial.set_user_attr("standard error", 0.5)
            trial.report(1.0, 1)
            state = optuna.trial.TrialState.PRUNED if number == 2 else None
            found.tell(trial, None if number == 2 else float(number), state=state)
        for read in READERS.values():
            read()
        shutil.rmtree("runs/published")
        shutil.rmtree("copy")
    return folder


def make_small(setattr_):
    setattr_(commands, "find_preset", lambda *names: replace(find_preset(*names), num_eval_tasks=4))
    setattr_(settings, "find_preset", lambda *names: Preset(*names, 400, PRESET, num_eval_tasks=4))
    setattr_(search, "remember", lambda family: None)


OTHERS = [
    *(None, True, 0, -1, 1.5, 10**9, 2**63, 10**40, 10**400, float("nan"), float("inf"), -1e308),
    *("", "x", "a\nb", "\x1b[31m", "x" * 1000, "'", [], {}, [[]], [1, [2]], {"a": {}}, [None]),
]


def places(data, path=()):
    """All paths to values of JSON data; of long lists to the first two."""
    items = data.items() if isinstance(data, dict) else enumerate(data[:2])
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def damage_json(data, rng):
    """Put another value in the place of one, or remove it."""
    data = json.loads(json.dumps(data))
    *path, last = rng.choice(list(places(data)))
    inside = data
    for key in path:
        inside = inside[key]
    if rng.random() < 0.25:
        del inside[last]
    elif rng.random() < 0.05:
        inside[last] = "DEEP"
        return json.dumps(data).replace('"DEEP"', "[" * 100_000 + "]" * 100_000).encode()
    else:
        inside[last] = rng.choice(OTHERS)
    return json.dumps(data).encode()


def damage_bytes(data, rng):
    """Cut, flip, insert or zero bytes; None stands for a folder in the file's place."""
    how, at = rng.randrange(7), rng.randrange(len(data))
    if how == 0:
        return data[: rng.choice([0, 1, at, len(data) - 1])]
    if how == 1:
        flipped = bytearray(data)
        for _ in range(rng.choice([1, 5, 100])):
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if how == 2:
        return data[:at] + rng.choice([b"\xff", b"[" * 100_000, b"\0", b'"', b"\n"]) + data[at:]
    if how == 3:
        return data[:at] + bytes(min(50, len(data) - at)) + data[at + 50 :]
    if how == 4:
        return rng.randbytes(500)
    if how == 5:
        return data[at:] + data[:at]
    return None


def damage_archive(path, rng):
    """Damage the header, or put another array in the place of one, or remove it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(["header.json", rng.choice([*parts])])
    if parts[name] == b"{}":
        parts[name] = rng.choice([b"", b"[]", b"{", b"1", b'{"a": "b"}'])
    elif name == "header.json":
        parts[name] = damage_json(json.loads(parts[name]), rng)
    elif rng.random() < 0.2:
        del parts[name]
    elif rng.random() < 0.2:
        parts[name] = damage_bytes(parts[name], rng) or b""
    else:
        array = np.load(io.BytesIO(parts[name]))
        kind = rng.choice(["f8", "f2", "i1", "u8", "?", "U3", "c16", "O", "M8[s]"])
        others = [array[:-1], array.T, array[None], np.zeros((0, 2)), array.astype("U9")]
        changed = rng.choice([*others, np.full(array.shape, rng.choice([0, 1]), kind)])
        stream = io.BytesIO()
        np.save(stream, changed)
        parts[name] = stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


def damage_file(path, rng):
    """What a damaged file holds: by the structure of its kind, or by bytes."""
    data = path.read_bytes()
    if rng.random() < 0.4 or "events" in path.name:
        return damage_bytes(data, rng)
    if path.suffix == ".json":
        return damage_json(json.loads(data), rng)
    if path.suffix == ".npz":
        return damage_archive(path, rng)
    if path.suffix == ".safetensors":  # sealed: its checksum is right
        tensors = load(data)
        text = damage_json(load_checkpoint(path)[1], rng).decode()
        if "[[[" not in text:
            state = json.loads(text)
            text = json.dumps({"sha256": checksum(tensors, state), **state})
        return save(tensors, {"metarl": text})
    lines = data.decode().splitlines()
    row = rng.randrange(len(lines))
    if path.suffix == ".csv":
        cells = lines[row].split(",")
        cells[rng.randrange(len(cells))] = str(rng.choice(OTHERS))
        lines[row] = ",".join(cells)
    else:
        lines[row] = damage_json(json.loads(lines[row]), rng).decode()
    return "\n".join([*lines, ""]).encode()


def complaint(name, read):
    """What is wrong with how a damaged file is read; None if nothing is."""
    try:
        read()
    except (MetarlError, OSError) as error:
        text = str(error)
        if "\n" in text or Path(name).stem not in text:
            return f"the file is not named in one sentence: {text:.300}"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.300}"
    return None


def check(name, whole, tmp_path, monkeypatch, numbers):
    make_small(monkeypatch.setattr)
    threads = torch.get_num_threads()
    wrong = {}
    for number in numbers:
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        monkeypatch.chdir(folder)
        data = damage_file(Path(name), random.Random(f"{name} {number}"))
        Path(name).unlink()
        if data is None:
            Path(name).mkdir()
        else:
            Path(name).write_bytes(data)
        if (said := complaint(name, READERS[name])) is not None:
            wrong[number] = said
        shutil.rmtree(folder)
    torch.set_num_threads(threads)
    assert wrong == {}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_right_or_refused_by_name(name, whole, tmp_path, monkeypatch):
    check(name, whole, tmp_path, monkeypatch, range(FEW))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files(name, whole, tmp_path, monkeypatch):
    check(name, whole, tmp_path, monkeypatch, range(FEW, FEW + MANY))
