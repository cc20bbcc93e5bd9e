"""What a training costs, and what it would cost in many processes: a model and its constants.

An iteration steps n lanes for T steps, acts, and takes G gradient steps, each on m lanes of a
process. Its time is that of docs/cost.md::

    T (s0 + s1 n)  +  T (a0 + a1 n)  +  G T (u0 + u1 m)  +  G r(4 P)  +  r(8 N K) + 12 r(0)

in which r(x) is the time to sum x bytes over all processes, 2 log2(W) latencies and 2 (W - 1) / W
transfers. The constants s, a, u are measured here, each point in a process of its own, and so is
r on this machine; what follows for W processes on networks is predicted.

Run: ``python -m metarl.experiments.benchmarks.cost_model``; it writes ``docs/images/cost.png``.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from metarl.agents.presets import find_preset
from metarl.agents.training.ranks import init_distributed
from metarl.evaluation.tables import plain_table
from metarl.experiments.benchmarks.growth import SIZE, build, timed_parts
from metarl.experiments.benchmarks.turns import in_a_process

MODULE = "metarl.experiments.benchmarks.cost_model"
CASES = ("rl2 bandit-100x5", "rl2 half-cheetah-dir", "maml half-cheetah-dir-rllab")
LANES = {"rl2": (32, 64, 128, 256), "maml": (4, 8, 16, 32)}
"""Trials, or tasks, at which simulating, acting and MAML's learning are measured."""
MINIBATCHES = (8, 16, 32, 64, 128)
LINKS = {"1 Gbit/s": 1e9 / 8, "10 Gbit/s": 1e10 / 8, "100 Gbit/s": 1e11 / 8}
WIRE = 30e-6
"""Seconds that the way between two machines adds to a message: assumed, not measured."""
SMALL_MESSAGES = 12
"""Other sums and gathers in an iteration, of a few bytes each."""
PROCESSES = tuple(2**power for power in range(11))


@dataclass(frozen=True)
class Cost:
    """The constants of a training.

    Attributes:
        case: AGENT FAMILY.
        lanes: n of one process that does all, N.
        horizon: T, the steps of a lane in an iteration.
        episodes: K, whose returns are gathered.
        gradient_steps: G; of MAML the messages of one update.
        minibatch: The lanes of a gradient step.
        most: How many processes can share that.
        num_parameters: P.
        simulating: s0 and s1, in seconds.
        acting: a0 and a1.
        learning: u0 and u1.
    """

    case: str
    lanes: int
    horizon: float
    episodes: int
    gradient_steps: int
    minibatch: int
    most: int
    num_parameters: int
    simulating: tuple[float, float]
    acting: tuple[float, float]
    learning: tuple[float, float]

    def seconds(self, processes: int, latency: float, bandwidth: float, grow: bool) -> float:
        """Return the time of an iteration.

        Args:
            processes: W.
            latency: Of a message, in seconds.
            bandwidth: In bytes per second.
            grow: Whether each process has as many lanes as one alone; else they share those.
        """
        total = self.lanes * (processes if grow else 1)
        minibatch = self.minibatch * (processes if grow else 1)
        lanes, share = total / processes, minibatch / processes
        if minibatch < total:
            share = _largest_share(total, minibatch, processes)
        own = self.horizon * (
            _line(self.simulating, lanes)
            + _line(self.acting, lanes)
            + self.gradient_steps * _line(self.learning, share)
        )
        return own + sum(
            count * _all_reduce(size, processes, latency, bandwidth)
            for count, size in (
                (self.gradient_steps, 4 * self.num_parameters),
                (1, 8 * total * self.episodes),
                (SMALL_MESSAGES, 0),
            )
        )

    def rate(self, processes: int, latency: float, bandwidth: float, grow: bool) -> float:
        """Return env steps per second; see :meth:`seconds`."""
        total = self.lanes * (processes if grow else 1)
        return total * self.horizon / self.seconds(processes, latency, bandwidth, grow)


def _line(constants: tuple[float, float], size: float) -> float:
    return constants[0] + constants[1] * size


def _all_reduce(size: float, processes: int, latency: float, bandwidth: float) -> float:
    """Return the time to sum so many bytes, by recursive halving and doubling."""
    return float(
        2 * np.log2(processes) * latency + 2 * (processes - 1) / processes * size / bandwidth
    )


def _largest_share(total: int, minibatch: int, processes: int) -> float:
    """Return how many lanes of a minibatch the process has that has most of them: all wait for it.

    Minibatches are drawn from all lanes, whoever has them.
    """
    rng = np.random.default_rng(0)
    owned = np.full(processes, total // processes)
    return float(rng.multivariate_hypergeometric(owned, minibatch, 200).max(1).mean())


def main(
    cases: tuple[str, ...] = CASES,
    seconds: float = 3.0,
    figure: Path = Path("docs/images/cost.png"),
) -> None:
    """Measure the constants, print them and what follows from them, draw the figure.

    Args:
        cases: What is trained, as AGENT FAMILY.
        seconds: How long sums over two processes are timed.
        figure: Where the figure goes.
    """
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    here = _run("messages", str(seconds), launcher=(sys.executable, *two))
    latency, bandwidth = here["latency"] / 2, here["bandwidth"]
    print(
        f"sums over two processes of this machine: latency {1e6 * latency:.0f} microseconds, "
        f"{8e-9 * bandwidth:.1f} Gbit/s\n"
    )
    costs = [fit(case) for case in cases]
    rows = [
        (
            cost.case,
            f"{cost.lanes}",
            f"{cost.horizon:.0f}",
            f"{cost.gradient_steps}",
            f"{cost.num_parameters:,}",
            *(
                f"{1e6 * first:.0f} + {1e6 * slope:.2f} n"
                for first, slope in (cost.simulating, cost.acting, cost.learning)
            ),
        )
        for cost in costs
    ]
    head = ("training", "N", "T", "G", "P", "simulate (us)", "act (us)", "learn (us)")
    print(plain_table(head, rows, left=1))
    for cost in costs:
        print(
            f"\n{cost.case}: predicted env steps per second, the same work shared out, and work "
            "that grows with the processes, at 1, 10 and 100 Gbit/s"
        )
        print(prediction(cost, latency, bandwidth))
    draw(costs, latency + WIRE, figure)


def fit(case: str) -> Cost:
    """Measure a training's constants."""
    name, _, family = case.partition(" ")
    preset = find_preset(name, family).hyperparameters
    agent: Any = build(name, family, LANES[name][0])
    cores = {"LOCAL_WORLD_SIZE": str(os.cpu_count() or 1)}
    points = [_run("iteration", case, str(size), "0", **cores) for size in LANES[name]]
    if name == "rl2":
        config = agent.config
        most_lanes = str(max(MINIBATCHES))
        steps = [_run("iteration", case, most_lanes, str(m), **cores) for m in MINIBATCHES]
        learning = _fit([(point["minibatch"], point["learning"]) for point in steps])
        lanes, minibatch = int(preset[SIZE[name]]), int(preset["trials_per_minibatch"])
        gradient_steps = config.n_epochs * -(-lanes // minibatch)
        most, network, episodes = minibatch, agent.network, agent.episodes_per_trial
    else:
        # All tasks in every step: G messages of an update, whose time is measured as a whole.
        gradient_steps = agent.config.n_epochs if agent.config.outer == "ppo" else 11
        learning = _fit([(p["lanes"], p["learning"] / gradient_steps) for p in points])
        most, network, episodes = (
            int(preset[SIZE[name]]),
            agent.policy,
            agent.config.inner_steps + 1,
        )
        lanes = minibatch = most * agent.config.episodes_per_adaptation
    return Cost(
        case=case,
        lanes=lanes,
        horizon=float(np.mean([point["horizon"] for point in points])),
        episodes=episodes,
        gradient_steps=gradient_steps,
        minibatch=minibatch,
        most=most,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        simulating=_fit([(point["lanes"], point["simulating"]) for point in points]),
        acting=_fit([(point["lanes"], point["acting"]) for point in points]),
        learning=learning,
    )


def _fit(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Return intercept and slope, neither negative, with small relative errors."""
    sizes, seconds = np.array(points).T
    slope, first = np.polyfit(sizes, seconds, 1, w=1.0 / seconds)
    return max(float(first), 0.0), float(slope)


def _run(*words: str, launcher: Sequence[str] = (sys.executable,), **settings: str) -> Any:
    # A process with one core, its simulations too: so many share a machine with it.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    return in_a_process(
        MODULE, *words, launcher=launcher, env=environment, stderr=subprocess.DEVNULL
    )


def iteration(case: str, size: int, minibatch: int) -> dict[str, float]:
    """Return what the parts of an iteration take, per step of a lane."""
    torch.set_num_threads(1)
    name, _, family = case.partition(" ")
    options = {"trials_per_minibatch": minibatch} if minibatch else {}
    agent: Any = build(name, family, size, **options)
    agent.learn(1)  # warms up
    parts = timed_parts(agent)
    before = agent.num_timesteps
    agent.learn(1, reset_num_timesteps=False)
    horizon = (agent.num_timesteps - before) / agent.n_envs
    steps = 1
    if minibatch:
        steps = agent.config.n_epochs * -(-size // minibatch)
    return {
        "lanes": agent.n_envs,
        "minibatch": minibatch,
        "horizon": horizon,
        "simulating": parts["simulating"] / horizon,
        "acting": parts["acting"] / horizon,
        "learning": parts["learning"] / horizon / steps,
    }


def messages(seconds: float) -> dict[str, float]:
    """Return latency and bandwidth of sums over the processes started with this one."""
    with init_distributed() as ranks:
        points = []
        for size in (1, 250_000, 2_500_000):
            tensor, count = torch.zeros(size), 0
            ranks.total(tensor)
            started = time.perf_counter()
            going = True
            while going:
                for _ in range(10):
                    ranks.total(tensor)
                count += 10
                going = time.perf_counter() - started < seconds / 3
                going = ranks.broadcast(b"1" if going else b"") == b"1"
            points.append((4.0 * size, (time.perf_counter() - started) / count))
        if not ranks.is_main:
            return {}
        latency, per_byte = points[0][1], (points[2][1] - points[0][1]) / points[2][0]
        return {"latency": latency, "bandwidth": 1.0 / per_byte}


def prediction(cost: Cost, latency: float, bandwidth: float) -> str:
    """Return a table: processes, and env steps per second on this machine and on networks."""
    rows, links = [], list(LINKS.values())
    for processes in PROCESSES:
        row = [f"{processes:,}"]
        for grow in (False, True):
            if not grow and processes > cost.most:
                row += [""] * len(links)
                continue
            row += [f"{cost.rate(processes, latency + WIRE, link, grow):,.0f}" for link in links]
        rows.append(tuple(row))
    speeds = [name.partition(" ")[0] for name in LINKS]
    head = (
        "processes",
        *(f"same, {each}" for each in speeds),
        *(f"grow, {each}" for each in speeds),
    )
    two = cost.rate(2, latency, bandwidth, False) / cost.rate(1, latency, bandwidth, False)
    return f"{plain_table(head, rows, left=1)}\ntwo processes of this machine: {two:.2f} times one"


def draw(costs: list[Cost], latency: float, path: Path) -> None:
    """Draw the efficiency of each training against the number of processes."""
    from matplotlib.figure import Figure

    figure = Figure((4 * len(costs), 4), layout="constrained")
    for cost, axes in zip(costs, np.atleast_1d(figure.subplots(1, len(costs), sharey=True))):
        for (name, link), color in zip(LINKS.items(), ("C3", "C1", "C0")):
            for grow, style in ((False, "--"), (True, "-")):
                fits = [w for w in PROCESSES if grow or w <= cost.most]
                alone = cost.rate(1, latency, link, grow)
                shares = [cost.rate(w, latency, link, grow) / w / alone for w in fits]
                label = name if grow else None
                axes.plot(fits, shares, style, color=color, label=label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set(title=cost.case, xlabel="processes", ylim=(0, 1.05))
        axes.grid(alpha=0.3)
    axes.plot([], [], "--", color="gray", label="the same work shared out")
    axes.legend(fontsize="small")
    figure.supylabel("speed of each process, of one alone", fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    if sys.argv[1:2] == ["iteration"]:
        print(json.dumps(iteration(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    elif sys.argv[1:2] == ["messages"]:
        if found := messages(float(sys.argv[2])):
            print(json.dumps(found))
    else:
        tyro.cli(main)
