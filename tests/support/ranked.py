"""What each of several processes does in test_ranks.py: train a little, and keep what it found.

Run by torchrun, or alone: ``python tests/support/ranked.py CASES FOLDER``. The first process writes
FOLDER/CASE-SIZE.npz: what all of them found together.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from learning import trained
from toys import aim, risk, strolls

from metarl import envs, evaluate
from metarl.agents import MAML, RL2
from metarl.agents.common.trust_region import flatten
from metarl.agents.maml import outer
from metarl.agents.training.ranks import init_distributed
from metarl.spaces import flatten as flat

NORMAL = {"normalize_observation": True, "normalize_reward": True}
FEW = {"trials_per_iteration": 8, "n_epochs": 1, "trials_per_minibatch": None, **NORMAL}
"""One gradient step, so that the gradient that is left is that of the first parameters."""
MAMLS = {
    "maml-trpo": {"inner_steps": 2},
    "maml-ratio": {"inner_objective": "ratio"},
    "e-maml": {"exploration_coef": 1.0},
    # Episodes that end at different times, after which a round waits for the longest. More of them:
    # the baseline would fit three to the bit, and the advantages would be their rounding.
    "maml-strolls": {
        "family": strolls(spaces.Discrete(3)),
        "inner_steps": 2,
        "episodes_per_adaptation": 20,
    },
}


def rl2(family, **options):
    """Return tasks, starts, noise, returns and the gradient of an iteration of RL²."""
    found = {}
    agent = RL2(envs.make(family), seed=0, **FEW, **options)
    update = agent.update

    def watched(experience):
        update(experience)
        found["gradient"] = flatten([p.grad for p in agent.network.parameters()])

    agent.update = watched
    return watch(agent, found)


def maml(family=None, **options):
    """Return the same of an iteration of MAML, and a product with the Fisher matrix."""
    found = {}

    def watched(problem):
        adapted = problem.adapt(differentiable=True)
        gradient = problem.gradient(problem.loss(problem.policies(adapted)))
        found["gradient"] = flatten(gradient)
        product = outer.fisher_of(problem, adapted, 0.01, 3)
        found["product"] = product(torch.linspace(-1.0, 1.0, len(found["gradient"])))
        return step(problem)

    agent = MAML(
        family or envs.make("navigation-2d"),
        seed=0,
        **{"meta_batch_size": 4, "episodes_per_adaptation": 3, **options},
    )
    step, agent.outer_update = agent.outer_update, watched
    return watch(agent, found)


def watch(agent, found):
    """Run one iteration; return what it was made of."""
    collect = agent.collect

    def watched(env, on_step):
        first = []

        def see(transition):
            if not first:
                first.append(transition)
            return on_step(transition)

        rollout, experience = collect(env, see)
        for name, column in env.tasks.columns.items():
            found[f"task {name}"] = agent.ranks.gather_array(column)
        seen, acted = first[0].observations, first[0].actions
        found["starts"] = agent.ranks.gather_array(flat(agent.observation_space, seen))
        found["actions"] = agent.ranks.gather_array(acted)
        return rollout, experience

    agent.collect = watched
    report = evaluate(agent, agent.tasks, num_tasks=8, ranks=agent.ranks)
    found["evaluated"], found["evaluated lengths"] = report.returns, report.lengths
    agent.learn(1)
    found["returns"] = agent.last_rollout.returns
    found["steps"] = agent.num_timesteps
    found["moments"] = flatten(
        [b for name, m in agent.modules.items() if "moments" in name for b in m.buffers()]
        or [torch.zeros(1)]
    )
    return found


def learn(case):
    """Return by how much an agent that several have trained is better than one that has not."""
    if case == "learn-rl2":
        family = risk(6)
        agent = trained(family, 60, ent_coef=0.05)
        return {"score": evaluate(agent, family, num_tasks=400).trial_returns.mean()}
    family = aim()
    agent = MAML(
        family,
        seed=0,
        meta_batch_size=20,
        episodes_per_adaptation=20,
        inner_lr=0.5,
    )
    agent.learn(30 * 2 * 20 * 20)
    report = evaluate(agent, family, num_tasks=100, num_episodes=40)
    return {"score": report.returns[:, 20:].mean() - report.returns[:, :20].mean()}


def main(cases, folder):
    torch.set_num_threads(1)
    with init_distributed() as ranks:
        for case in cases:
            if case.startswith("learn"):
                found = learn(case)
            elif case in MAMLS:
                found = maml(**MAMLS[case])
            else:
                found = rl2(case)
            if ranks.is_main:
                np.savez(Path(folder) / f"{case}-{ranks.size}.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2])
