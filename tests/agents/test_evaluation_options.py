"""Which hyperparameters change how a trained agent acts: those that may be set in an evaluation."""

import numpy as np
import pytest
from walk import TINY, walk

from metarl import rollout
from metarl.agents import MAML, RL2, FineTune, FromScratch, MultiTask

PPO = {
    "adaptation_batch_size": 3,
    "adaptation_epochs": 2,
    "adaptation_learning_rate": 0.1,
    "batch_size": 8,
    "clip_range": 1e-4,
    "ent_coef": 1.0,
    "gae_lambda": 0.1,
    "gamma": 0.1,
    "learning_rate": 0.1,
    "max_grad_norm": 1e-6,
    "n_epochs": 1,
    "target_kl": 1e-9,
    "vf_coef": 0.0,
}
CASES = {
    "rl2": (
        RL2,
        {"policy_kwargs": {"hidden_size": 4}},
        {"reset_memory_every": 1, "gamma": 0.5, "n_epochs": 1, "ent_coef": 1.0},
    ),
    "maml": (
        MAML,
        {"policy_kwargs": TINY, "episodes_per_adaptation": 2},
        {
            "adapt_only_last_layer": True,
            "episodes_per_adaptation": 3,
            "first_order": True,
            "gae_lambda": 0.1,
            "gamma": 0.1,
            "halve_inner_lr": True,
            "inner_lr": 1.0,
            "inner_steps": 3,
            "max_kl": 0.5,
        },
    ),
    "maml-rates": (
        MAML,
        {"policy_kwargs": TINY, "episodes_per_adaptation": 2, "learn_inner_lr": "per_parameter"},
        {"gamma": 0.1, "halve_inner_lr": True, "inner_lr": 1.0},
    ),
    "multi-task": (MultiTask, {}, {"gamma": 0.5, "n_epochs": 1, "vf_coef": 0.1}),
    "fine-tune": (FineTune, {"episodes_per_adaptation": 2}, PPO),
    "from-scratch": (FromScratch, {"episodes_per_adaptation": 2}, PPO),
}


@pytest.mark.parametrize(
    "case",
    [
        # From scratch the options are those of fine-tuning.
        pytest.param(case, marks=[pytest.mark.slow] if case == "from-scratch" else [])
        for case in CASES
    ],
)
def test_evaluation_options_are_those_that_change_what_is_earned(case, tmp_path):
    kind, options, values = CASES[case]
    tasks = walk()
    agent = kind(tasks, seed=0, device="cpu", **options)
    agent.save(tmp_path / "agent")

    def returns(**changed):
        agent = kind.load(tmp_path / "agent", tasks, device="cpu", **changed)
        lanes = agent.episodes_per_adaptation
        env = tasks.make_vec(2 * lanes)
        env.set_tasks(tasks.sample("held_out", 2, 0).repeat(lanes))
        observations, _ = env.reset(seed=0)
        return rollout(env, observations, agent.adaptation(2, seed=0), 4).returns

    own = returns()
    effective = {
        name for name in values if not np.array_equal(returns(**{name: values[name]}), own)
    }
    assert effective == values.keys() & {*agent.evaluation_options}
    assert list(agent.evaluation_options) == sorted(agent.evaluation_options)
    assert {*agent.evaluation_options} <= {*agent.hyperparameters}
