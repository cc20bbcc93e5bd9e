"""Cases of fuzz.py: files of a run, damaged by bytes and by entries."""

import contextlib
import copy
import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from fuzzing import MAD, attempt, command, complaint
from safetensors.torch import load, save

from metarl import Report
from metarl.agents.training.checkpoint import checksum, load_checkpoint
from metarl.experiments.runs.run import Run


def damage_bytes(data, rng):
    """Flip, cut, insert, repeat or overwrite bytes."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        size = len(data)
        start = rng.randrange(size + 1)
        stop = min(size, start + rng.choice([1, 2, 8, 100, size]))
        how = rng.randrange(6)
        if how <= 1 and size:
            data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif how == 2:
            del data[start:stop]
        elif how == 3:
            data[start:start] = rng.choice([rng.randbytes(3), b"\xff", b"[" * 9, b"\x1b[31m", b'"'])
        elif how == 4:
            data[start:start] = data[start:stop]
        else:
            data[start:stop] = bytes(stop - start)
    return bytes(data)


def places(data, path=()):
    """All paths into JSON data."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data[:3])
    for key, value in items if isinstance(data, (dict, list)) else ():
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def damage_json(data, rng):
    """Replace, remove or add entries."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice([1, 1, 1, 2])):
        *path, last = rng.choice([path for path in places(data) if path] or [("",)])
        inside = data
        for key in path:
            inside = inside[key]
        how = rng.randrange(8)
        if how == 0:
            del inside[last]
        elif how == 1 and isinstance(inside, dict):
            inside[rng.choice(["x", "", "\x1b", "device", "tasks"])] = rng.choice(MAD)
        elif how == 2 and isinstance(inside[last], (int, float)):
            inside[last] *= rng.choice([-1, 0.5, 2, 10**9])
        else:
            inside[last] = copy.deepcopy(rng.choice(MAD))
    return data


def to_text(data, rng):
    """JSON text, at times one that is nested too deeply or has a number of many digits."""
    text = json.dumps(data)
    if rng.random() < 0.03:
        text = text.replace(rng.choice("[{:"), rng.choice(["[" * 200_000, ": " + "9" * 5000]), 1)
    return text.encode("utf-8", "surrogatepass")


class Files:
    """Cases of damaged files, each in a fresh copy of a small run."""

    def __init__(self, runs):
        self.runs = runs
        self.shown = {name: command(["evaluate", str(run)])[1].out for name, run in runs.items()}
        assert all("held_out" in shown for shown in self.shown.values())

    def case(self, rng):
        name = rng.choice(list(self.runs))
        run = Path(shutil.copytree(self.runs[name], f"damaged-{name}"))
        try:
            return getattr(self, rng.choice(["config", "agent", "report", "progress"]))(
                rng, name, run
            )
        finally:
            shutil.rmtree(run)

    def expected(self, name, run):
        """What the evaluation of an undamaged run prints."""
        return self.shown[name].replace(str(self.runs[name]), str(run))

    def config(self, rng, name, run):
        path = run / "config.json"
        config = json.loads(path.read_text())
        if rng.random() < 0.3:
            data = damage_bytes(path.read_bytes(), rng)
        else:
            data = to_text(damage_json(config, rng), rng)
        path.write_bytes(data)
        # Training for as long as the file says is no fault.
        if rng.random() < 0.3 and small(data):
            (run / "agent.safetensors").rename(run / "checkpoint.safetensors")
            return command(["resume", str(run)])[0]
        wrong, outcome = command(["evaluate", str(run)])
        if wrong is None and outcome.result == 0:
            wanted = json.loads(data)["evaluation"] == config["evaluation"]
            noted = "note: config.json differs from" in outcome.err
            if wanted and not noted and outcome.out != self.expected(name, run):
                return f"silently another result: {outcome.out[:300]}"
        return wrong

    def agent(self, rng, name, run):
        path = run / "agent.safetensors"
        data, seal = path.read_bytes(), False
        if rng.random() < 0.6:
            data = damage_bytes(data, rng)
        else:
            tensors, state = load(data), load_checkpoint(path)[1]
            if rng.random() < 0.5:
                state = damage_json(state, rng)
            else:
                tensors = damage_tensors(tensors, rng)
            seal = rng.random() < 0.7
            with contextlib.suppress(Exception):
                state = {"sha256": checksum(tensors, state), **state} if seal else state
            data = save(tensors, {"metarl": to_text(state, rng).decode("utf-8", "replace")})
        path.write_bytes(data)
        wrong, outcome = command(["evaluate", str(run)])
        done = wrong is None and outcome.result == 0
        if done and not seal and outcome.out != self.expected(name, run):
            return f"silently another result: {outcome.out[:300]}"
        return wrong

    def report(self, rng, name, run):
        path = run / "evaluation" / "held_out.npz"
        if rng.random() < 0.4:
            data = damage_bytes(path.read_bytes(), rng)
        else:
            with zipfile.ZipFile(path) as archive:
                parts = {each: archive.read(each) for each in archive.namelist()}
            which = rng.choice([*parts])
            if which == "header.json":
                parts[which] = to_text(damage_json(json.loads(parts[which]), rng), rng)
            else:
                parts[which] = damage_bytes(parts[which], rng)
            with zipfile.ZipFile(path, "w") as archive:
                for each, part in parts.items():
                    archive.writestr(each, part)
            data = path.read_bytes()
        path.write_bytes(data)
        wrong, outcome = command(["compare", str(run), str(self.runs[name]), "--output", "c.png"])
        wrong = wrong or command(["compare", str(run), "--output", "c.png"])[0]
        done = wrong is None and outcome.result == 0
        if done and not np.array_equal(np.load(path)["returns"], Report.load(path).returns):
            return "another result than the file's"
        return wrong

    def progress(self, rng, name, run):
        path = run / "progress.csv"
        data = path.read_bytes()
        if rng.random() < 0.5:
            data = damage_bytes(data, rng)
        else:
            rows = list(csv.reader(io.StringIO(data.decode())))
            row = rng.choice(rows)
            row[rng.randrange(len(row))] = f"{rng.choice(MAD)!s:.300}"
            text = io.StringIO()
            csv.writer(text).writerows(rows)
            data = text.getvalue().encode("utf-8", "surrogatepass")
        path.write_bytes(data)
        opened = Run.open(run)

        def log():
            logger = opened.logger(rng.choice([0, 40, 10**9]))
            logger.record("time/total_timesteps", 50)
            logger.record("new", 1.0)
            logger.dump(50)
            return opened.progress()

        outcome = attempt(log)
        if outcome.error is None and outcome.result[-1]["new"] != "1.0":
            return f"the new row is lost: {outcome.result[-1]}"
        return complaint(outcome)


def small(data):
    """Whether a training with this configuration is a short one."""
    with contextlib.suppress(Exception):
        config = json.loads(data)
        numbers = [config["total_timesteps"], *config["hyperparameters"].values()]
        return all(not isinstance(n, (int, float)) or n < 200 for n in numbers)
    return True


def damage_tensors(tensors, rng):
    tensors = dict(tensors)
    name = rng.choice(sorted(tensors))
    how = rng.randrange(6)
    if how == 0:
        del tensors[name]
    elif how == 1:
        tensors[rng.choice(["x", "extra.x", "network.x", "optimizer.0.x"])] = torch.zeros(2)
    elif how == 2:
        tensors[name] = tensors[name].to(rng.choice([torch.int8, torch.bool, torch.float64]))
    elif how == 3:
        tensors[name] = tensors[name].reshape(-1)[:1].clone()
    else:
        changed = tensors[name].clone().reshape(-1)
        changed[:1] = rng.choice([float("nan"), float("inf"), 1e30, 0.0])
        tensors[name] = changed.reshape(tensors[name].shape)
    return tensors
