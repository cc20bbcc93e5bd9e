"""What recorded histories cost: the speed of recording, of training on them, and memory.

Times are those of the processor, so other processes count little.

Run: ``python -m metarl.experiments.benchmarks.histories``. With ``--num-steps 100_000_000`` it
instead writes that many steps and reads them, and prints the memory of the process meanwhile.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from metarl import envs
from metarl.agents import AD, AGENTS, reference
from metarl.agents.distill.learner import Distillation
from metarl.agents.presets import find_preset
from metarl.data import Histories, record
from metarl.evaluation.play import play
from metarl.seeding import stream

SOURCES = (
    ("bandit-100x5", "thompson-sampling", "known-best-arm", 1000, 100),
    ("dark-room", "nearest-unvisited", "known-goal", 1000, 8),
    ("dark-room", "random", "known-goal", 2000, 20),
    ("half-cheetah-dir", "random", None, 20, 4),
)
"""Family, source, source of the best actions, tasks and episodes."""
GRADIENT_STEPS = 20


def main(num_steps: int = 0) -> None:
    """Measure and print.

    Args:
        num_steps: How many steps to write and read, instead of all else.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        if num_steps:
            write_and_read(num_steps, Path(folder) / "data")
            return
        for number, case in enumerate(SOURCES):
            recording_speed(*case, Path(folder) / str(number))
        for agent in ("ad", "dpt"):
            for number in (0, 1):
                training_share(agent, SOURCES[number][0], Path(folder) / f"{number}-labels")


def recording_speed(
    family: str, source: str, labels: str | None, num_tasks: int, num_episodes: int, folder: Path
) -> None:
    """Print how fast recording is next to the bare rollout; leave a recording with labels."""
    tasks = envs.make(family)
    agent, _ = reference(source, tasks)
    options: dict[str, Any] = {"num_tasks": num_tasks, "num_episodes": num_episodes}

    def bare() -> None:
        sampled = tasks.sample("train", num_tasks, 0)
        play(agent, tasks, sampled, num_episodes, seed=stream(0, "play"), max_envs=num_tasks)

    def recorded(part: str) -> None:
        record(agent, tasks, folder.with_name(f"{folder.name}-{part}"), **options)

    bare()
    rollouts = [seconds(bare) for _ in range(3)]
    recordings = [seconds(lambda part=str(i): recorded(part)) for i in range(3)]  # type: ignore[misc]
    lengths = Histories(folder.with_name(f"{folder.name}-0")).lengths
    print(
        f"{source} on {family}: {lengths.sum() / min(recordings):,.0f} steps per second recorded, "
        f"{min(rollouts) / min(recordings):.2f} of the speed of the rollout"
    )
    if labels is not None:
        oracle, _ = reference(labels, tasks)
        record(agent, tasks, folder.with_name(f"{folder.name}-labels"), labels=oracle, **options)


def training_share(agent: str, family: str, folder: Path) -> None:
    """Print the share of a training that the network takes, forwards and back."""
    preset = find_preset(agent, family).hyperparameters
    learner = AGENTS[agent](envs.make(family), seed=0, **preset)
    assert isinstance(learner, Distillation)
    histories = Histories(folder)
    learner.learn(histories, total_gradient_steps=2)
    inputs = (learner.trial_input, "sequence") if isinstance(learner, AD) else (learner, "rows")
    spent = [timed(learner, "update"), timed(*inputs)]
    total = seconds(lambda: learner.learn(histories, total_gradient_steps=GRADIENT_STEPS))
    update, preparing = (sum(times) for times in spent)
    print(
        f"{agent} on {family}: {total / GRADIENT_STEPS * 1e3:.0f} ms for each gradient step, "
        f"{(update - preparing) / total:.0%} of it in the network"
    )


def write_and_read(num_steps: int, folder: Path) -> None:
    """Write that many steps and read each once; print the memory that the process takes meanwhile.

    Pages of mapped files are not counted: the system takes them back when it needs them.
    """
    tasks = envs.make("dark-room")
    agent, _ = reference("random", tasks)
    num_tasks = -(-num_steps // (100 * 20))
    with memory("writing"):
        record(agent, tasks, folder, num_tasks=num_tasks, num_episodes=100)
    with memory("reading"):
        histories = Histories(folder)
        windows = histories.windows(100)
        order = np.random.default_rng(0).permutation(len(windows))
        total = sum(
            windows.batch(part).mask.sum() for part in np.array_split(order, len(order) // 16 + 1)
        )
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{total:,} steps, {size / 2**30:.1f} GiB, {num_tasks:,} histories")


@contextlib.contextmanager
def memory(what: str) -> Iterator[None]:
    """Print how much memory the process takes after each tenth of the time, in MiB."""
    taken, over, started = [], threading.Event(), time.monotonic()

    def look() -> None:
        while not over.wait(0.2):
            status = Path("/proc/self/status").read_text()
            taken.append(int(status.partition("RssAnon:")[2].split()[0]) / 1024)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
    largest = [f"{max(part):.0f}" for part in np.array_split(taken, 10) if len(part)]
    seconds = time.monotonic() - started
    print(f"{what}: {seconds:.0f} s; the most memory in each tenth, in MiB: {' '.join(largest)}")


def seconds(function: Callable[[], object]) -> float:
    """Return the time of the processor that a call takes."""
    started = time.process_time()
    function()
    return time.process_time() - started


def timed(owner: Any, name: str) -> list[float]:
    """Return a list that gets the time of each call of a method from now on."""
    method = getattr(owner, name)
    times: list[float] = []

    def wrapped(*args: Any) -> Any:
        started = time.process_time()
        result = method(*args)
        times.append(time.process_time() - started)
        return result

    setattr(owner, name, wrapped)
    return times


if __name__ == "__main__":
    tyro.cli(main)
