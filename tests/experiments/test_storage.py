"""Disks that are full or read-only, folders that are removed, logs that are damaged."""

import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, edit, refusal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl import files
from metarl.agents import RL2, Learner
from metarl.agents.presets import find_preset
from metarl.errors import StorageError
from metarl.experiments.cli import commands
from metarl.experiments.cli.main import main
from metarl.experiments.reports import video
from metarl.experiments.runs import logs
from metarl.experiments.runs import training as learning
from metarl.experiments.runs.run import Run

TRAIN = [*("train", "rl2", "bandit-10x5", *SMALL), "--total-timesteps", "400", "--run-dir", "run"]


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(
        commands, "find_preset", lambda *names: replace(find_preset(*names), num_eval_tasks=4)
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("finished"))
        patch.setattr(
            commands, "find_preset", lambda *names: replace(find_preset(*names), num_eval_tasks=4)
        )
        assert main(TRAIN) == 0
        return Path("run").resolve()


@pytest.fixture
def run(finished):
    return Path(shutil.copytree(finished, "run"))


def last_error(capsys):
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("metarl: error: ")
    return line


@contextlib.contextmanager
def full_disk(of, *, after=0):
    """Let writes to files whose names hold ``of`` fail, from one on."""
    count = iter(range(10**6))
    original = os.fsync

    def fsync(handle):
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        if of in name and next(count) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_disk_that_is_full_at_a_checkpoint(finished, after, capsys):
    with full_disk("checkpoint", after=after):
        assert main(TRAIN) == 2
    message = last_error(capsys)
    assert "cannot write 'run/checkpoint.safetensors': No space left on device" in message
    assert "fix it, then continue with: metarl resume run" in message
    assert Path("run/checkpoint.safetensors").exists() == (after > 0)
    assert not list(Path("run").glob(".*"))
    assert main(["resume", "run"]) == 0
    same = "agent.safetensors"
    assert (Path("run") / same).read_bytes() == (finished / same).read_bytes()


@pytest.mark.parametrize("log", ["progress.csv", "events.out.tfevents.0000000001"])
def test_a_disk_that_is_full_at_the_log(log, monkeypatch, capsys):
    append, count = logs._append, iter(range(100))

    def full(path, data):
        if path.name == log and next(count) > 1:
            with monkeypatch.context() as patch:
                patch.setattr("metarl.files.os.open", no_space)
                append(path, data)
        append(path, data)

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logs, "_append", full)
    assert main(TRAIN) == 2
    message = last_error(capsys)
    assert f"cannot write 'run/{log}': No space left on device; the last complete iteration" in (
        message
    )
    assert "is saved; fix it, then continue with: metarl resume run" in message
    assert Path("run/checkpoint.safetensors").exists()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_evaluation_that_cannot_be_kept_is_shown(command, finished, capsys):
    if command == "evaluate":
        shutil.copytree(finished, "run")
    with full_disk("held_out"):
        assert main(TRAIN if command == "train" else ["evaluate", "run"]) == 2
    out, err = capsys.readouterr()
    assert "RL2 on bandit-10x5, held_out: 4 tasks" in out
    assert "Thompson sampling" in out
    assert "cannot write 'run/evaluation/held_out.npz': No space left on device; " in err
    if command == "train":
        assert err.strip().endswith("fix it, then continue with: metarl resume run")
        assert main(["resume", "run"]) == 0
    else:
        assert err.strip().endswith("the evaluation is shown above but not saved")


@pytest.mark.parametrize("moment", ["update", "adaptation"])
def test_a_run_that_is_removed_ends_with_an_error_and_leaves_nothing(moment, monkeypatch, capsys):
    original = getattr(RL2, moment)

    def removing(self, *args, **options):
        if self.iteration == (5 if moment == "adaptation" else 2):
            shutil.rmtree("run", ignore_errors=True)
        return original(self, *args, **options)

    monkeypatch.setattr(RL2, moment, removing)
    assert main(TRAIN) == 2
    assert "the run directory 'run' is gone; fix it, then" in last_error(capsys)
    assert not Path("run").exists()


def test_a_read_only_folder_is_evaluated_all_the_same(run, monkeypatch, capsys):
    original = Path.open

    def read_only(path, mode="r", *options, **named):
        if mode == "xb":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return original(path, mode, *options, **named)

    monkeypatch.setattr(Path, "open", read_only)
    assert main(["evaluate", "run"]) == 2
    out, err = capsys.readouterr()
    assert "RL2 on bandit-10x5, held_out: 4 tasks" in out
    assert "cannot write 'run/evaluation/held_out.npz': Read-only file system; " in err


def test_what_kills_left_behind_is_removed(run, capsys):
    parts = [run / ".progress.csv.x.part", run / "evaluation" / ".held_out.npz.x.part"]
    before = sorted(run.rglob("*"))
    for part in parts:
        part.touch()
    shutil.copy(run / "agent.safetensors", run / "checkpoint.safetensors")
    assert "is complete" in refusal(["resume", "run"], capsys)
    assert sorted(run.rglob("*")) == before
    for part in parts:
        part.touch()
    (run / "agent.safetensors").rename(run / "checkpoint.safetensors")
    assert main(["resume", "run"]) == 0
    assert {path.name for path in run.iterdir()} == {path.name for path in before} & {
        path.name for path in run.iterdir()
    }
    assert not list(run.rglob("*.part"))
    assert not (run / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("moment", ["_iterate", "adaptation"])
def test_a_signal_ends_a_training_with_the_way_on(name, moment, monkeypatch, capsys):
    number = getattr(signal, name)
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("ignored, as in jobs in the background")
    before = signal.getsignal(number)
    original = getattr(RL2, moment)

    def signalled(self, *args, **options):
        os.kill(os.getpid(), number)
        return original(self, *args, **options)

    monkeypatch.setattr(RL2, moment, signalled)
    assert main(TRAIN) == 130
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.endswith("continue with: metarl resume run")
    assert signal.getsignal(number) is before
    assert Path("run/checkpoint.safetensors").exists()


def test_progress_beyond_the_goal_is_all_of_it(capsys):
    assert main([*TRAIN, "--total-timesteps", "1"]) == 0  # an iteration takes 80 steps
    shown = capsys.readouterr().err
    assert "training 100%: 8 env steps" in shown
    assert shown.count("training") == 1


# Symbolic links, which may lead out of a run of somebody else's.


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    path = tmp_path / "outside" / "precious"
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"
    assert [each.name for each in path.parent.iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["events.out.tfevents.0000000009", "config.json"])
def test_a_run_is_not_resumed_through_a_link(name, run, outside, capsys):
    (run / "agent.safetensors").rename(run / "checkpoint.safetensors")
    edit(run, lambda config: config.update(total_timesteps=480))
    if name == "config.json":
        (run / name).rename(run / "config")
        (run / name).symlink_to("config")
    else:
        (run / name).symlink_to(outside)
    assert f"'run/{name}' is a symbolic link to " in refusal(["resume", "run"], capsys)


@pytest.mark.parametrize("command", ["evaluate", "watch", "resume"])
def test_a_folder_of_evaluations_that_is_a_link_is_refused(command, run, outside, capsys):
    shutil.rmtree(run / "evaluation")
    (run / "evaluation").symlink_to(outside.parent)
    assert main([command, "run"]) == 2
    assert "'run/evaluation' is a symbolic link to " in last_error(capsys)


def test_links_in_place_of_what_is_written_are_replaced(run, outside):
    (run / "agent.safetensors").rename(run / "checkpoint.safetensors")
    edit(run, lambda config: config.update(total_timesteps=480))
    names = ["progress.csv", "evaluation/held_out.npz", "evaluation/held_out.png"]
    for name in [*names, "agent.safetensors"]:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside.with_name("made"))
    assert main(["resume", "run"]) == 0
    assert not [path for path in run.rglob("*") if path.is_symlink()]
    films = run / "evaluation" / "film.gif"
    films.symlink_to(outside)
    video._write(films, [np.zeros((16, 16, 3), np.uint8)] * 2, 10.0)
    assert films.read_bytes().startswith(b"GIF8")


def test_what_is_appended_is_not_appended_through_a_link(outside, tmp_path):
    (tmp_path / "log").symlink_to(outside)
    for mode in ("ab", "wb", "rb+", "a"):
        with pytest.raises(StorageError, match=r"log' is a symbolic link to .*precious'"):
            files.open_to_write(tmp_path / "log", mode)
    (tmp_path / "lock").symlink_to(outside.parent / "made")
    with pytest.raises(StorageError, match="is a symbolic link"), files.locked(tmp_path / "lock"):
        pass


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_of_the_umask(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        files.atomic_write(tmp_path / "one", "text")
        files.atomic_write(tmp_path / "one", "another")
        files.atomic_write(tmp_path / "two", "text", exclusive=True)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("one", "two")]
    assert modes == [mode, mode]


# Logs.


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-40] + b"\xff" + data[-39:], "can't decode byte 0xff"),
        (lambda data: data.replace(b"\n", b",1\n", 2), "cells of"),
        (lambda data: data.replace(b"time/total_timesteps", b"time/steps"), "is not in list"),
        (lambda data: data[:-1] + b',"\n"\n', "damaged: "),
    ],
)
def test_a_damaged_log_is_named(run, damage, message, capsys):
    (run / "agent.safetensors").rename(run / "checkpoint.safetensors")
    edit(run, lambda config: config.update(total_timesteps=480))
    path = run / "progress.csv"
    path.write_bytes(damage(path.read_bytes()))
    shown = refusal(["resume", "run"], capsys)
    assert "'run/progress.csv' is damaged: " in shown
    assert message in shown
    assert shown.endswith("training does not need it: move it away to go on")
    path.unlink()
    assert main(["resume", "run"]) == 0


@pytest.fixture
def warnings_of_tensorboard():
    """What TensorBoard's own loggers say."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("tensorboard")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


def test_tensorboard_reads_a_resumed_run_without_a_word(
    finished, monkeypatch, warnings_of_tensorboard
):
    # Stopped after the second iteration and twice more, its log cut within a record.
    update, calls = Learner._iterate, iter(range(100))

    def stopping(self, log_interval):
        done = update(self, log_interval)
        if next(calls) % 2:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(learning, "CHECKPOINT_SECONDS", 10**9)
    monkeypatch.setattr(Learner, "_iterate", stopping)
    assert main(TRAIN) == 130
    monkeypatch.setattr(learning, "CHECKPOINT_SECONDS", 0)
    assert main(["resume", "run"]) == 130
    assert main(["resume", "run"]) == 130
    events = sorted(Path("run").glob("events*"))
    assert len(events) == 3
    with events[-1].open("ab") as file:
        file.write(b"\x18\0\0\0")
    monkeypatch.setattr(Learner, "_iterate", update)
    assert main(["resume", "run"]) == 0

    def scalars(folder):
        shown = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        return {
            tag: [(event.step, event.value) for event in shown.Scalars(tag)]
            for tag in shown.Tags()["scalars"]
            if "second" not in tag
        }

    assert scalars("run") == scalars(finished)
    steps = [int(row["time/total_timesteps"]) for row in Run.open("run").progress()]
    assert [step for step, _ in scalars("run")["rollout/return_mean"]] == steps
    assert warnings_of_tensorboard == []


def test_tensorboard_gets_the_picture_of_the_curve(finished):
    shown = EventAccumulator(str(finished)).Reload()
    (picture,) = shown.Images("held_out/curve")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.width > picture.height > 100


# What a run's checkpoint may differ in from its configuration.


def test_edits_of_the_configuration(run, capsys):
    edit(run, lambda config: config["hyperparameters"].update(learning_rate=0.5))
    assert main(["evaluate", "run"]) == 0
    note = capsys.readouterr().err
    (line,) = note.splitlines()
    assert line == "note: config.json differs from agent.safetensors: learning_rate=0.5 (was 0.003)"
    edit(run, lambda config: config["hyperparameters"].update(learning_rate=0.003))
    for change, message in [
        ({"seed": 5}, "was trained with seed 0, but 'run/config.json' has 5"),
        ({"tasks": "bandit-20x5"}, "was trained with tasks 'bandit-10x5', "),
        ({"view": {"num_train_tasks": 4}}, "was trained with view {}, but 'run/config.json' has"),
        ({"view": {"oracle": False}}, "'view' must be an object of 'train_split' (a printable"),
        ({"view": {"shown": True}}, "'view' must be an object of"),
        ({"tasks": "bandit-10x6"}, "was trained with another action_space"),
        ({"agent": "maml"}, "'run/config.json': unknown hyperparameter"),
        ({"agent": "maml", "hyperparameters": {}}, "holds an agent of kind 'RL2', not 'MAML'"),
        ({"hyperparameters": {"policy_kwargs": {"hidden_size": 0}}}, "config.json': hidden_size"),
        ({"evaluation": {"num_tasks": 2**31, "num_episodes": 9, "seed": 1}}, "at most 10,000,000"),
        ({"device": "gpu"}, "'run/config.json': device must be 'auto', 'cpu', 'cuda' or"),
    ]:
        config = json.loads((run / "config.json").read_text())
        edit(run, lambda data, change=change: data.update(change))
        assert message in refusal(["evaluate", "run"], capsys)
        (run / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("text", ["[" * 200_000, "1" * 400, '{"seed": ' + "9" * 400 + "}", "\xff"])
def test_json_beyond_reason(run, text, capsys):
    report = run / "evaluation" / "held_out.npz"
    shutil.copy(report, "whole.npz")
    report.write_bytes(text.encode("latin1"))
    assert "held_out.npz' is not an archive of metarl" in refusal(["compare", "run"], capsys)
    with zipfile.ZipFile("whole.npz") as whole, zipfile.ZipFile(report, "w") as damaged:
        for name in whole.namelist():
            content = text.encode("latin1") if name == "header.json" else whole.read(name)
            damaged.writestr(name, content)
    assert "held_out.npz' is not an archive of metarl" in refusal(["compare", "run"], capsys)
    (run / "config.json").write_bytes(text.encode("latin1"))
    assert "'run/config.json' is damaged: " in refusal(["evaluate", "run"], capsys)
