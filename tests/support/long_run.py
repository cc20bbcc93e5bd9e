"""A process that trains and evaluates for long holds no more at its end than at its start.

Run: ``python tests/support/long_run.py``: 1,000 iterations and 200 evaluations, each saved, logged
and loaded again. Prints memory, open files and threads on the way, and fails if they grow.
"""

import os
import resource
import sys
import tempfile
from pathlib import Path

import torch

from metarl import envs, evaluate
from metarl.agents import MAML, RL2
from metarl.envs.mujoco.dynamics import half_cheetah_motors
from metarl.experiments.runs.run import Run

PARTS, ITERATIONS, EVALUATIONS = 10, 100, 20


def held():
    """Return memory in MB, and the numbers of open files and of threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (
        pages * resource.getpagesize() / 2**20,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


def main():
    torch.set_num_threads(1)
    robots, plane = half_cheetah_motors(horizon=10), envs.navigation_2d(horizon=10)
    small = {"trials_per_iteration": 2, "trials_per_minibatch": 2, "n_epochs": 1}
    agents = [
        RL2(robots, seed=0, device="cpu", policy_kwargs={"hidden_size": 8}, **small),
        MAML(plane, seed=0, device="cpu", meta_batch_size=2, episodes_per_adaptation=2),
    ]
    measured = []
    for part in range(PARTS):
        for agent in agents:
            run = Run(Path(agent.name), {})
            run.directory.mkdir(exist_ok=True)
            logger = run.logger(agent.num_timesteps)
            agent.set_logger(logger)
            count = ITERATIONS // 2
            start = agent.iteration
            while agent.iteration < start + count:
                agent.learn(1, reset_num_timesteps=False)
            for number in range(EVALUATIONS // 2):
                agent.save(run.checkpoint)
                loaded = type(agent).load(run.checkpoint, agent.tasks, device="cpu")
                report = evaluate(loaded, agent.tasks, num_tasks=4, seed=number)
                report.save(run.evaluation)
            logger.close()
        measured.append(held())
        memory, files, threads = measured[-1]
        print(
            f"{(part + 1) * ITERATIONS:5d} iterations, {(part + 1) * EVALUATIONS:3d} evaluations: "
            f"{memory:.1f} MB, {files} files, {threads} threads",
            flush=True,
        )
    # The first parts import what they need and warm caches up.
    early, late = measured[PARTS // 3], measured[-1]
    grown = late[0] - early[0]
    print(f"growth from part {PARTS // 3 + 1} to the last: {grown:.1f} MB")
    return grown > 0.02 * early[0] or late[1:] != early[1:]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="metarl-long-") as folder:
        os.chdir(folder)
        sys.exit(main())
