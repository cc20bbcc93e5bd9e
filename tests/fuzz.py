"""Damaged files, mad command lines and calls: each is done right, or answered in one sentence.

Run: ``python tests/fuzz.py --files 2000 --commands 1000 --calls 1500 --seed 0``. Case i of a seed
is always the same; ``--only files:17`` repeats one. A case fails if it ends in another error than
ours, in several lines, in a result that is silently another, or if it takes more than 5 s of
computing or more than 1 GB of memory.
"""

import argparse
import collections
import contextlib
import copy
import csv
import faulthandler
import io
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import killed_runs
import numpy as np
import torch
from safetensors.torch import load, save

import metarl
from metarl import MetarlError, Report, envs
from metarl.agents import AGENTS, MAML, RL2
from metarl.agents.checkpoint import _checksum, load_checkpoint
from metarl.experiments import cli, commands
from metarl.experiments.runs import Run

SECONDS, MEMORY = 5.0, 2**30

MAD = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        1.5,
        -0.0,
        1e-9,
        1e308,
        -1e308,
        float("nan"),
        float("inf"),
    ),
    *(2**31, 2**31 - 1, 2**63, 2**64, -(2**63), 10**40, 10**400, "", "x", "0", "é", "nan", "[/x]"),
    *("\x1b[31mred", "a\nb", "../../x", "\ud800", "x" * 10_000, [], {}, [[]], [1, [2]], {"a": {}}),
    *([0.5] * 3, {"x": 1}, [None], ["a"], [1e308] * 2, {"": ""}, [True], [2**70]),
]
FAMILIES = [
    *("bandit-2x2", "bandit-3x2", "navigation-2d", "bandit-2x1", "bandit-99999999999x2", "file"),
    *("bandit-2x99999999999", "os:getcwd", "x:y", "./x.py:t", ":", "bandit-2x2-told", "", "[/x]"),
    "\x1b[31m",
]
SMALL = {
    "rl2": {
        "trials_per_iteration": 2,
        "trials_per_minibatch": 2,
        "n_epochs": 1,
        "policy_kwargs": {"hidden_size": 4},
    },
    "maml": {
        "meta_batch_size": 2,
        "episodes_per_adaptation": 2,
        "policy_kwargs": {"hidden_sizes": [4]},
    },
}


class TooLong(BaseException):
    """A case that takes too long."""


@dataclass
class Outcome:
    """How a case ended: None where it was done, else the error; and what was printed."""

    error: BaseException | None
    out: str = ""
    err: str = ""
    result: object = None


def attempt(act):
    """Do something within the limits of time and memory."""

    def late(*_):
        raise TooLong

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    error = result = None
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error")
            result = act()
    except (Exception, SystemExit, TooLong) as raised:
        error = raised
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return Outcome(error, out.getvalue(), err.getvalue(), result)


def complaint(outcome):
    """Say what is wrong with an outcome whose error, if any, should be ours; None if nothing is."""
    error = outcome.error
    if error is None:
        return None
    if isinstance(error, TooLong):
        return f"takes more than {SECONDS:g} s"
    if not isinstance(error, (MetarlError, OSError)) or "\n" in str(error):
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.200} ({where.filename}:{where.lineno})"
    return None


def command(words):
    """Run a command line; say what is wrong with how it ended, and return what it printed."""
    outcome = attempt(lambda: cli.main(words))
    if isinstance(outcome.error, SystemExit) and outcome.error.code in (0, 2):  # the parser's
        return None, outcome
    wrong = complaint(outcome)
    if wrong is None and outcome.error is not None:
        wrong = f"{type(outcome.error).__name__} reaches the shell: {outcome.error}"
    lines = outcome.err.strip().splitlines()
    if wrong is None and outcome.result not in (0, 2):
        wrong = f"exit code {outcome.result}"
    if wrong is None and outcome.result == 2:
        last = lines[-1] if lines else ""
        if not last.startswith("metarl: error: ") or len(last) > 1500:
            wrong = f"an error without a sentence: {outcome.err[-300:]!r}"
    if wrong is None and not all(c.isprintable() or c == "\n" for c in outcome.out + outcome.err):
        wrong = "characters that steer the terminal"
    return wrong, outcome


# Files.


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
                state = {"sha256": _checksum(tensors, state), **state} if seal else state
            data = save(tensors, {"metarl": to_text(state, rng).decode("utf-8", "replace")})
        path.write_bytes(data)
        wrong, outcome = command(["evaluate", str(run)])
        done = wrong is None and outcome.result == 0
        if done and not seal and outcome.out != self.expected(name, run):
            return f"silently another result: {outcome.out[:300]}"
        return wrong

    def report(self, rng, name, run):
        path = run / "evaluation" / "held_out.json"
        if rng.random() < 0.4:
            data = damage_bytes(path.read_bytes(), rng)
        else:
            data = to_text(damage_json(json.loads(path.read_text()), rng), rng)
        path.write_bytes(data)
        wrong, outcome = command(["compare", str(run), str(self.runs[name]), "--output", "c.png"])
        wrong = wrong or command(["compare", str(run), "--output", "c.png"])[0]
        if wrong is None and outcome.result == 0:
            said, read = json.loads(data), Report.load(path)
            if not np.array_equal(np.array(said["returns"]), read.returns):
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


# Command lines.


class CommandLines:
    """Cases of command lines, with what people mistype and what nobody means."""

    def __init__(self, runs):
        self.runs = [str(run) for run in runs.values()]
        self.count = itertools.count()

    def case(self, rng):
        words = self.words(rng)
        wrong, _ = command(words)
        if wrong is not None:
            return f"metarl {' '.join(map(repr, words))}: {wrong}"
        return None

    def words(self, rng):
        value = self.value
        run = [rng.choice([*self.runs, *self.runs, *self.runs, "nothing", ".", "/", "", "file"])]
        options = {
            "--split": ["held_out", "train", "uphill", ""],
            "--num-tasks": ["2", "3"],
            "--num-episodes": ["2", "4", "10"],
            "--seed": ["0", "7"],
            "--trust": ["os", "", "my_tasks"],
        }
        kind = rng.choice(["list", "train", "train", "evaluate", "evaluate", "compare", "watch"])
        kind = rng.choice([kind] * 30 + ["resume", "", "--help", "trian"])
        if kind == "list":
            words = rng.sample(["rl2", "maml", "x", ""], rng.randrange(2))
            options = {}
        elif kind == "train":
            agent = rng.choice([*AGENTS, *AGENTS, "rl3", ""])
            family = rng.choice(FAMILIES)
            words = [agent, family, "--run-dir"]
            words += [rng.choice([f"r{next(self.count)}"] * 9 + ["file"])]
            words += ["--total-timesteps", rng.choice(["1"] * 9 + ["0", "x", "1.5"])]
            settings = SMALL.get(agent, {})
            for name, setting in settings.items():
                words += ["--set", f"{name}={json.dumps(setting)}"]
            options = {
                "--seed": ["0", "7"],
                "--device": ["cpu", "auto", "cuda", "x", "meta", "mps", "cuda:99", "cpu:7", ""],
                "--threads": ["1", "2"],
            }
            if agent in AGENTS:
                names = AGENTS[agent].hyperparameter_names()
                options["--set"] = [
                    f"{rng.choice(names)}={value(rng)}" for _ in range(rng.randrange(1, 3))
                ]
                kwargs = json.dumps(
                    {
                        rng.choice(["hidden_size", "hidden_sizes", "memory", "x"]): rng.choice(
                            [m for m in MAD if m != 10**400]
                        )
                    }
                )
                options["--set "] = [f"policy_kwargs={kwargs}"]
        else:
            words = run
            if kind == "compare":
                words = run + rng.sample(self.runs, rng.randrange(2))
            if kind in ("compare", "watch"):
                options["--output"] = ["c.png", "c.gif", "c", "", "/", "file/c.png", "no/c.gif"]
        for name in rng.sample(sorted(options), min(len(options), rng.randrange(4))):
            known = rng.choice(options[name])
            words += [name.strip(), known if rng.random() < 0.6 else value(rng)]
        if rng.random() < 0.05:
            words.insert(rng.randrange(len(words) + 1), value(rng))
        return [kind, *words]

    @staticmethod
    def value(rng):
        mad = rng.choice(MAD)
        text = mad if isinstance(mad, str) else json.dumps(mad)
        return text.replace("\ud800", "?")[:4000]


# Calls.


class Calls:
    """Cases of calls of the Python interface with arguments of any kind."""

    def __init__(self):
        self.bandits, self.plane = envs.bandit(2, 2), envs.navigation_2d(horizon=3)
        self.agents = {
            "rl2": RL2(self.bandits, seed=0, **SMALL["rl2"]),
            "maml": MAML(self.plane, seed=0, **SMALL["maml"]),
        }
        self.report = metarl.evaluate(self.agents["rl2"], self.bandits, num_tasks=4)
        self.report.save(".", "good")

    def case(self, rng):
        names = [name for name in dir(self) if name.startswith("call_")]
        name = rng.choice(names)
        given = []

        def mad(*good, share=0.5):
            """A mad value, or one of those that will do."""
            value = rng.choice(good) if good and rng.random() > share else rng.choice(MAD)
            given.append(f"{value!r:.60}")
            return value

        outcome = attempt(lambda: getattr(self, name)(mad, rng))
        wrong = complaint(outcome)
        return wrong and f"{name[5:]} with {', '.join(given)}: {wrong}"

    def call_make(self, mad, rng):
        envs.make(mad("bandit-2x2"))

    def call_bandit(self, mad, rng):
        envs.bandit(mad(2), mad(3)).make_vec(mad(2)).reset(seed=mad(0))

    def call_navigation(self, mad, rng):
        envs.navigation_2d(squared=mad(True), horizon=mad(3)).make_vec(mad(2))

    def call_sample(self, mad, rng):
        self.plane.sample(mad("train", "held_out"), mad(3), seed=mad(0))

    def call_law(self, mad, rng):
        self.plane.law(mad("train"))

    def call_told(self, mad, rng):
        self.plane.told().make_vec(mad(2)).set_tasks(mad())

    def call_uniform(self, mad, rng):
        metarl.Uniform(mad(0.0), mad(1.0), nominal=mad(None, 0.5)).sample(
            np.random.default_rng(), 2
        )

    def call_log_uniform(self, mad, rng):
        metarl.LogUniform(mad(0.5), mad(1.0)).sample(np.random.default_rng(), 2)

    def call_choice(self, mad, rng):
        metarl.Choice(mad([1, 2]), mad(None, 1)).sample(np.random.default_rng(), 2)

    def call_task_set(self, mad, rng):
        tasks = metarl.TaskSet(mad({"a": [1, 2, 3]}, {"a": [1.0, 2.0], "b": ["x", "y"]}))
        tasks.split(mad(0.5), seed=mad(0))

    def call_distribution(self, mad, rng):
        metarl.TaskDistribution(
            name=mad("mine"),
            parameters=mad(self.plane.parameters),
            env_factory=self.plane.env_factory,
            splits=mad({}, {"hard": {"goal": metarl.Uniform(0.0, 0.1, (2,))}}),
            episodes_per_trial=mad(2),
            statistic=mad("iqm"),
        ).sample("train", 2, 0)

    def call_evaluate(self, mad, rng):
        agent = rng.choice(list(self.agents.values()))
        metarl.evaluate(
            mad(agent, share=0.1),
            mad(agent.tasks, share=0.1),
            split=mad("train", "held_out", share=0.2),
            num_tasks=mad(2, 3, share=0.2),
            num_episodes=mad(2, None, share=0.2),
            seed=mad(0, share=0.2),
            deterministic=mad(False, share=0.1),
        )

    def call_hyperparameter(self, mad, rng):
        name = rng.choice(list(AGENTS))
        tasks = self.bandits if name == "rl2" else self.plane
        hyperparameter = rng.choice(AGENTS[name].hyperparameter_names())
        AGENTS[name](tasks, seed=0, **{**SMALL[name], hyperparameter: mad()}).learn(1)

    def call_policy_kwargs(self, mad, rng):
        name = rng.choice(list(AGENTS))
        key = rng.choice(["hidden_size", "memory", "encoder", "separate_critic", "log_std_init"])
        if name == "maml":
            key = rng.choice(["hidden_sizes", "activation", "log_std_init", "output_gain"])
        AGENTS[name](self.plane, seed=0, **{**SMALL[name], "policy_kwargs": {key: mad()}}).learn(1)

    def call_agent(self, mad, rng):
        RL2(
            mad(self.bandits, share=0.1),
            seed=mad(0, None),
            device=mad("cpu", "auto"),
            verbose=mad(0, share=0.1),
            tensorboard_log=mad(None, "logs"),
            **SMALL["rl2"],
        )

    def call_learn(self, mad, rng):
        total = mad(1, share=0.3)
        if type(total) is int and 10**4 < total <= 10**15:
            return  # training for long is no fault
        self.agents["rl2"].learn(
            total,
            callback=mad(None, share=0.3),
            log_interval=mad(1, share=0.3),
            tb_log_name=mad(None, "x", share=0.2),
        )

    def call_predict(self, mad, rng):
        agent = self.agents["rl2"]
        good = np.zeros(agent.trial_input.size)
        agent.predict(mad(good), deterministic=mad(False, True))

    def call_save_and_load(self, mad, rng):
        self.agents["rl2"].save("agent")
        RL2.load(mad("agent"), mad(self.bandits, share=0.2), device=mad("cpu"))

    def call_restore(self, mad, rng):
        self.agents["maml"].restore(mad("good", "agent"))

    def call_environment(self, mad, rng):
        env = rng.choice([self.bandits, self.plane]).make_vec(2)
        env.reset(seed=mad(0), options=mad(None))
        env.step(mad(np.array([0, 1]), np.zeros((2, 2), np.float32)))

    def call_set_tasks(self, mad, rng):
        self.plane.make_vec(2).set_tasks(mad(self.plane.sample("train", 2, 0)))

    def call_task(self, mad, rng):
        metarl.Task(mad("mine"), mad({"a": 1.0})).describe()

    def call_trial(self, mad, rng):
        env = metarl.TrialEnv(self.bandits, split=mad("train"), episodes_per_trial=mad(2))
        env.reset(seed=mad(0))

    def call_check(self, mad, rng):
        metarl.check_tasks(mad(self.bandits), num_steps=mad(5, share=0.3), seed=mad(0, share=0.3))

    def call_report(self, mad, rng):
        Report.load(mad("good.json", "agent.safetensors"))

    def call_report_again(self, mad, rng):
        Report.from_json({**self.report.to_json(), rng.choice(["seed", "returns", "tasks"]): mad()})

    def call_summary(self, mad, rng):
        self.report.summary(self.report.groups(mad(3)), confidence=mad(0.9))

    def call_family(self, mad, rng):
        envs.from_gymnasium(
            mad("CartPole-v1"),
            mad({"gravity": metarl.Uniform(5.0, 15.0)}),
            splits=mad(None, {}),
            name=mad(None, "mine"),
            horizon=mad(5),
            episodes_per_trial=mad(2),
        ).make_vec(2).reset(seed=0)


# All of it.


def make_runs():
    """Train small runs to damage."""
    commands.find_preset = lambda agent, tasks: commands.Preset(agent, tasks, 1, {}, 4)
    commands.plot_reports = lambda reports, path: Path(path).write_bytes(b"")
    Report.plot = lambda self, path=None: killed_runs.empty_figure()
    runs = {}
    for agent, family in (("rl2", "bandit-10x5"), ("maml", "bandit-4x2")):
        runs[agent] = Path(agent).resolve()
        words = ["train", agent, family, "--total-timesteps", "1", "--run-dir", str(runs[agent])]
        for name, value in {**SMALL[agent], "policy_kwargs": {}}.items():
            words += ["--set", f"{name}={json.dumps(value)}"]
        assert command(words)[1].result == 0
    return runs


def run(counts, seed, only=None):
    """Try so many cases of each kind; return the failures, by what they have in common."""
    runs = make_runs()
    Path("file").write_text("text")
    kinds = {"files": Files(runs), "commands": CommandLines(runs), "calls": Calls()}
    resource.setrlimit(resource.RLIMIT_AS, (used_memory() + MEMORY, resource.RLIM_INFINITY))
    failures = collections.defaultdict(list)
    for kind, count in counts.items():
        for number in range(count):
            case = f"{kind}:{number}"
            if only in (None, case):
                wrong = kinds[kind].case(random.Random(f"{seed} {case}"))
                if wrong is not None:
                    failures[wrong].append(case)
    return failures


def used_memory():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for kind in ("files", "commands", "calls"):
        parser.add_argument(f"--{kind}", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    options = vars(parser.parse_args())
    seed, only = options.pop("seed"), options.pop("only")
    if only is not None:
        kind, number = only.split(":")
        options[kind] = int(number) + 1
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="metarl-fuzz-") as folder:
        os.chdir(folder)
        os.environ["XDG_CONFIG_HOME"] = folder
        failures = run(options, seed, only)
    for wrong, cases in failures.items():
        print(f"{wrong}\n    python tests/fuzz.py --seed {seed} --only {cases[0]}")
    print(f"seed {seed}: {options}, failures: {len(failures)}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
