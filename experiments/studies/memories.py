"""Memories on five kinds of families: which earns how much with the same trainer."""

from typing import Any

from metarl.experiments.studies.study import EvalSpec, Learner, Study

# Env steps of each training, and the episodes of a trial.
FAMILIES = {
    "bandit-100x5": (3_000_000, 100),
    "tabular-mdp-10": (3_000_000, 10),
    "games-7x7": (12_000_000, 4),
    "half-cheetah-vel": (4_000_000, 2),
    "dark-key-to-door": (3_000_000, 4),
}
NETWORK = {"hidden_size": 64, "separate_critic": True}
NETWORKS: dict[str, dict[str, Any]] = {
    "GRU": {"memory": "gru", "skip": True},
    "LSTM": {"memory": "lstm", "skip": True},
    "linear recurrence": {"memory": "linear", "skip": True},
    "Transformer": {"memory": "transformer", "skip": True},
    "GRU, hypernetwork": {"memory": "gru", "hypernetwork": [32]},
    "no memory": {"memory": "none", "skip": True},
}


def _learners(family: str) -> list[Learner]:
    return [
        Learner(
            label,
            "rl2",
            family,
            total_timesteps=FAMILIES[family][0],
            hyperparameters={"policy_kwargs": {**NETWORK, **network}},
            variant="hypernetwork" if "hypernetwork" in network else network["memory"],
        )
        for label, network in NETWORKS.items()
    ]


STUDY = Study(
    name="memories",
    title="Memories",
    question="Which memory learns most from the same number of env steps? RL² with six networks "
    "on five families, each with the hyperparameters of the family's preset.",
    evaluations=[
        EvalSpec(family, family, _learners(family), num_tasks=400, num_episodes=num_episodes)
        for family, (_, num_episodes) in FAMILIES.items()
    ],
    seeds=(0, 1, 2),
    caveats=(
        "The presets were tuned with one memory each: the episodic one on tabular-mdp-10, an LSTM "
        "or a GRU on the others.",
        "All have 64 units, not as many parameters.",
        "*No memory* sees the present observation alone: what it earns needs no adaptation.",
    ),
)
