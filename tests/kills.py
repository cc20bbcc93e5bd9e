"""Kills trainings at random moments, resumes them until they are finished, and compares bits.

Run: ``python tests/kills.py NUMBER [--seed SEED]`` with the number of SIGKILLs. Trainings of
different kinds take turns, with a checkpoint before every iteration. Each must end with the same
agent, evaluation, log and TensorBoard curves as one that nobody disturbed, and leave nothing else
behind. Named moments are tested by test_reproducibility.py.
"""

import argparse
import collections
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import killed_runs
from test_reproducibility import rows_of, scalars

from metarl.experiments import cli, learning

POLES = """
from metarl import Uniform
from metarl.envs import from_gymnasium
tasks = from_gymnasium("CartPole-v1", {"gravity": Uniform(5.0, 15.0)}, horizon=20)
"""
RL2 = (
    "--set trials_per_iteration=8 --set trials_per_minibatch=4 --set n_epochs=1 "
    '--set policy_kwargs={"hidden_size":8}'
)
MAML = (
    "--set meta_batch_size=2 --set episodes_per_adaptation=2 "
    '--set policy_kwargs={"hidden_sizes":[8]}'
)
TRAININGS = {
    "rl2 on bandits": f"rl2 bandit-10x5 --total-timesteps 480 {RL2}",
    "rl2 on an own family": f"rl2 poles:tasks --total-timesteps 2000 {RL2}",
    "rl2 on robots": f"rl2 half-cheetah-motors --total-timesteps 3200 {RL2}",
    "maml by trpo": f"maml navigation-2d --total-timesteps 3200 {MAML}",
    "maml by ppo": f"maml navigation-2d --total-timesteps 3200 {MAML} --set outer=ppo",
    "maml by reptile": f"maml navigation-2d --total-timesteps 3200 {MAML} --set outer=reptile",
}


def computed(process):
    """Return for how many seconds a process has computed, however busy the machine is."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) * 1e-9


def run(arguments, seconds=None):
    """Run the command line in a child, killed after so much computing.

    Returns:
        Its exit code, and for how long it computed.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            silent = os.open(os.devnull, os.O_WRONLY)
            log = os.open("errors.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(silent, 1)
            os.dup2(log, 2)
            code = cli.main(arguments)
        finally:
            sys.stderr.flush()
            os._exit(code)
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        spent = computed(child)
        if seconds is not None and spent >= seconds:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    spent = computed(child)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), spent


def differences(whole, killed):
    """Say in what a run that was killed differs from one that was not."""
    found = [
        f"{name} differs"
        for name in ("agent.safetensors", "evaluation/held_out.json")
        if (whole / name).read_bytes() != (killed / name).read_bytes()
    ]
    if rows_of(whole / "progress.csv") != rows_of(killed / "progress.csv"):
        found.append("progress.csv differs")
    if scalars(whole) != scalars(killed):
        found.append("TensorBoard's curves differ")
    files = [
        {str(p.relative_to(each)) for p in each.rglob("*") if "tfevents" not in p.name}
        for each in (whole, killed)
    ]
    if files[0] != files[1]:
        found.append(f"files differ: {sorted(files[0] ^ files[1])}")
    return found


def state(directory):
    """Say how far a run had come when it was killed."""
    for name in ("agent.safetensors", "checkpoint.safetensors", "progress.csv", "config.json"):
        if (directory / name).exists():
            return f"with {name}"
    return "before config.json"


def main(number, seed):
    """Kill that many times; return the failures."""
    rng = random.Random(seed)
    root = Path.cwd()
    killed_runs.make_small()
    learning.time, learning.CHECKPOINT_SECONDS = time, 0
    killed_runs.warm_up()
    whole, seconds = {}, {}
    for name, words in TRAININGS.items():
        whole[name] = root / f"whole {name}"
        code, seconds[name] = run(["train", *words.split(), "--run-dir", str(whole[name])])
        assert code == 0, (root / "errors.txt").read_text()
        print(f"{name}: {seconds[name]:.2f} s of computing", flush=True)
    states, finished, failures = collections.Counter(), collections.Counter(), []
    while states.total() < number:
        name = min(TRAININGS, key=lambda name: finished[name])
        directory = root / f"{name} {finished[name]}"
        kills = 0
        while True:
            words = ["resume", str(directory)]
            if not (directory / "config.json").exists():
                words = ["train", *TRAININGS[name].split(), "--run-dir", str(directory)]
            code, _ = run(words, rng.uniform(0, seconds[name]) if kills < 8 else None)
            if code == -signal.SIGKILL:
                kills += 1
                states[state(directory)] += 1
                continue
            said = (root / "errors.txt").read_text()
            if code not in (0, 2) or (code == 2 and "is complete" not in said):
                failures.append(f"{directory.name} ended with {code}: {said[-300:]}")
            break
        finished[name] += 1
        failures += [f"{directory.name}: {each}" for each in differences(whole[name], directory)]
        print(f"{directory.name}: {kills} kills", *failures[-1:], flush=True)
    print(f"\nseed {seed}: {states.total()} kills of {finished.total()} trainings")
    for how, count in sorted(states.items()):
        print(f"  {count:4d} {how}")
    print(f"failures: {len(failures)}", *failures, sep="\n  ")
    return failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metarl-kills-") as folder:
        os.chdir(folder)
        os.environ["XDG_CONFIG_HOME"] = folder
        Path("poles.py").write_text(POLES)
        sys.exit(bool(main(options.number, options.seed)))
