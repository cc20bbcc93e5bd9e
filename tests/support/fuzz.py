"""Damaged files, mad command lines and calls: each is done right, or answered in one sentence.

Run: ``python tests/support/fuzz.py --files 2000 --commands 1000 --calls 1500``. Case i of a seed
is always the same; ``--only files:17`` repeats one. A case fails if it ends in another error than
ours, in several lines, in a result that is silently another, or if it takes more than 5 s of
computing or more than 1 GB of memory.
"""

import argparse
import collections
import contextlib
import faulthandler
import io
import json
import os
import random
import resource
import sys
import tempfile
from pathlib import Path

import killed_runs
from fuzz_calls import Calls, CommandLines
from fuzz_files import Files
from fuzzing import MEMORY, SMALL

from metarl import Report
from metarl.experiments.cli import commands
from metarl.experiments.cli.main import main as main_command


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
        with contextlib.redirect_stdout(io.StringIO()):  # without a limit: the first one imports
            assert main_command(words) == 0
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
        print(f"{wrong}\n    python tests/support/fuzz.py --seed {seed} --only {cases[0]}")
    print(f"seed {seed}: {options}, failures: {len(failures)}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
