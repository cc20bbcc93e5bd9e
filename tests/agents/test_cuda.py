"""Training, saving and evaluation on a GPU. Skipped where there is none."""

import pytest
import torch
from toys import strolls
from walk import walk

from metarl import evaluate
from metarl.agents import MAML, RL2

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

CASES = {
    "rl2": (RL2, strolls, {"trials_per_iteration": 4, "trials_per_minibatch": 2}),
    "trpo": (MAML, walk, {"meta_batch_size": 2, "episodes_per_adaptation": 2}),
    "ppo": (MAML, walk, {"outer": "ppo", "meta_batch_size": 2, "episodes_per_adaptation": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_agent_trains_and_is_evaluated_on_a_gpu(case, tmp_path):
    agent_class, family, options = CASES[case]
    agent = agent_class(family(), seed=0, device="cuda", **options).learn(1)
    assert agent.iteration == 1
    assert all(p.is_cuda for module in agent.modules.values() for p in module.parameters())
    agent.save(tmp_path / "agent")
    for device in ("cuda", "cpu"):
        loaded = agent_class.load(tmp_path / "agent", family(), device=device)
        report = evaluate(loaded, family(), num_tasks=3, num_episodes=2)
        assert report.returns.shape == (3, 2)
