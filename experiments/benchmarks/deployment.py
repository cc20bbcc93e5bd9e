"""One decision of a deployed agent: ONNX Runtime against the agent itself on PyTorch.

Both take turns in one run, on one thread, and the shortest of many short rounds counts: other
programs on the machine only ever add time.

Run: ``python -m metarl.experiments.benchmarks.deployment``
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import tyro

from metarl import envs
from metarl.agents import RL2


def main(
    family: str = "half-cheetah-vel", memory: str = "gru", units: int = 64, rounds: int = 1000
) -> None:
    """Print microseconds of one decision of RL², and their ratio.

    Args:
        family: The family whose spaces the agent has.
        memory: Its memory.
        units: The units of the memory.
        rounds: How many rounds of ten decisions are timed.
    """
    torch.set_num_threads(1)
    kwargs = {"memory": memory, "hidden_size": units}
    agent = RL2(envs.make(family), seed=0, device="cpu", policy_kwargs=kwargs)
    observation = np.zeros(agent.observation_space.shape or (), np.float32)
    session, decide = agent.session(), _exported(agent)

    def act() -> None:
        session.act(observation)
        session.observe(observation, 0.0, False, False)

    shortest = {"session": np.inf, "onnxruntime": np.inf}
    for _ in range(rounds):
        for name, one in (("session", act), ("onnxruntime", decide)):
            shortest[name] = min(shortest[name], _seconds(one))
    for name, seconds in shortest.items():
        print(f"{name}: {1e6 * seconds:.0f} microseconds a decision")
    print(f"ratio: {shortest['session'] / shortest['onnxruntime']:.1f}")


def _exported(agent: RL2) -> Callable[[], Any]:
    """Return a function that takes one decision of the exported agent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.onnx"
        agent.export(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = onnxruntime.InferenceSession(path, options)
    about = json.loads(graph.get_modelmeta().custom_metadata_map["metarl"])
    feed = {n: np.zeros(start["shape"], start["dtype"]) for n, start in about["inputs"].items()}
    wanted = ["action", *(f"next_{name}" for name in about["state"])]
    return lambda: graph.run(wanted, feed)


def _seconds(decide: Callable[[], Any], count: int = 10) -> float:
    for _ in range(count):  # the other one has had the caches
        decide()
    start = time.perf_counter()
    for _ in range(count):
        decide()
    return (time.perf_counter() - start) / count


if __name__ == "__main__":
    tyro.cli(main)
