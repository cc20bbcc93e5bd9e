"""Kills trainings at random moments, resumes them until they are finished, and compares bits.

Run: ``python tests/support/kills.py NUMBER [--seed SEED]`` with the number of SIGKILLs. Trainings
of different kinds take turns, with a checkpoint before every iteration. Each must end with the same
agent, evaluation, log and TensorBoard curves as one that was never killed, and leave no file and no
process behind. Of a training in two processes, any process may be the one that is killed. Named
moments are tested by test_reproducibility.py.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import killed_runs
from run_logs import rows_of, scalars

from metarl.experiments.cli import main as cli
from metarl.experiments.runs import training

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
SB3 = "--set num_envs=8 --set batch_size=400"
TRAININGS = {
    "rl2 on bandits": f"rl2 bandit-10x5 --total-timesteps 480 {RL2}",
    "rl2 on an own family": f"rl2 poles:tasks --total-timesteps 2000 {RL2}",
    "rl2 on robots": f"rl2 half-cheetah-motors --total-timesteps 3200 {RL2}",
    "rl2 with workers": f"rl2 poles:tasks --total-timesteps 2000 --num-workers 2 {RL2}",
    "rl2 in two processes": f"rl2 bandit-10x5 --total-timesteps 480 --processes 2 {RL2}",
    "multi-task": f"multi-task navigation-2d --total-timesteps 4800 {SB3}",
    "maml by trpo": f"maml navigation-2d --total-timesteps 3200 {MAML}",
    "maml by ppo": f"maml navigation-2d --total-timesteps 3200 {MAML} --set outer=ppo",
    "maml by reptile": f"maml navigation-2d --total-timesteps 3200 {MAML} --set outer=reptile",
}


# Other Python processes than this one make a checkpoint before every iteration, too.
CUSTOMIZE = """
import sys
if sys.argv[:1] == ["-m"]:
    from metarl.experiments.runs import training
    training.CHECKPOINT_SECONDS = 0
"""
MARK = "METARL_KILLS"
"""Set in the environment of a child's processes: those of several have sessions of their own."""
ENDED_WITHIN = 30.0
"""Seconds that the other processes of a killed training have to end."""


def members(child):
    """Return the processes of a child that are alive, by what they have inherited from it."""
    mark = f"{MARK}={child}\0".encode()
    alive = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            own = path.name == str(child) or mark in (path / "environ").read_bytes()
            if own and state not in "ZX":
                alive.append(int(path.name))
    return alive


def computed(processes):
    """Return for how many seconds processes have computed, however busy the machine is."""
    spent = 0.0
    for process in processes:
        try:
            spent += int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) * 1e-9
        except OSError:
            continue
    return spent


def run(arguments, seconds=None, rng=None):
    """Run the command line in a child, killed after so much computing.

    Args:
        arguments: Those of the command line.
        seconds: How long it computes until it is killed; None never kills.
        rng: Chooses which of its processes is killed, and all of them count; None takes the first.

    Returns:
        Whether it was killed, its exit code, for how long it computed, and whether processes of it
        were left.
    """
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.environ[MARK] = str(os.getpid())
            silent = os.open(os.devnull, os.O_WRONLY)
            log = os.open("errors.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(silent, 1)
            os.dup2(log, 2)
            sys.argv[1:] = arguments  # several processes are started with these
            code = cli.main(arguments)
        except SystemExit as error:  # of what several processes ended with
            code = error.code
        finally:
            sys.stderr.flush()
            os._exit(code)
    was_killed, spent = False, 0.0
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        processes = [child] if rng is None else members(child)
        spent = max(spent, computed(processes))
        if seconds is not None and spent >= seconds and not was_killed:
            victim = child if rng is None or not processes else rng.choice(processes)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                was_killed = True
        time.sleep(0.002 if rng is None else 0.02)
    _, status = os.waitpid(child, 0)
    deadline = time.monotonic() + ENDED_WITHIN
    while (left := members(child)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return was_killed, os.waitstatus_to_exitcode(status), spent, bool(left)


def differences(whole, killed):
    """Say in what a run that was killed differs from one that was not."""
    if not (killed / "agent.safetensors").exists():
        return ["it is not complete"]
    found = [
        f"{name} differs"
        for name in ("agent.safetensors", "evaluation/held_out.npz")
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
    training.time, training.CHECKPOINT_SECONDS = time, 0
    killed_runs.warm_up()
    whole, seconds = {}, {}
    for name, words in TRAININGS.items():
        whole[name] = root / f"whole {name}"
        arguments = ["train", *words.split(), "--run-dir", str(whole[name])]
        _, code, seconds[name], _ = run(arguments, rng=rng if "two processes" in name else None)
        assert code == 0, (root / "errors.txt").read_text()
        print(f"{name}: {seconds[name]:.2f} s of computing", flush=True)
    states, finished, failures = collections.Counter(), collections.Counter(), []
    while states.total() < number:
        name = min(TRAININGS, key=lambda name: finished[name])
        directory = root / f"{name} {finished[name]}"
        together = "two processes" in name
        kills = 0
        while True:
            words = ["resume", str(directory)]
            if not (directory / "config.json").exists():
                words = ["train", *TRAININGS[name].split(), "--run-dir", str(directory)]
            after = rng.uniform(0, seconds[name]) if kills < (3 if together else 8) else None
            killed, code, _, left = run(words, after, rng if together else None)
            if left:
                failures.append(f"{directory.name}: processes were left after kill {kills + 1}")
            if killed and code != 0:
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
    parser.add_argument("--only", default="", help="trainings whose names contain this")
    options = parser.parse_args()
    TRAININGS = {name: words for name, words in TRAININGS.items() if options.only in name}
    with tempfile.TemporaryDirectory(prefix="metarl-kills-") as folder:
        os.chdir(folder)
        os.environ["XDG_CONFIG_HOME"] = str(Path(folder, "config"))
        os.environ["PYTHONPATH"] = folder
        Path("sitecustomize.py").write_text(CUSTOMIZE)
        Path("poles.py").write_text(POLES)
        sys.exit(bool(main(options.number, options.seed)))
