"""Hyperparameters of AD and DPT: the first pattern that matches a family counts."""

from metarl.agents.training.preset import Preset

# For histories of: metarl record nearest-unvisited dark-room --num-tasks 650 --num-episodes 8.
# Without random actions the searcher takes one way in all tasks until it has found the goal: to
# distill it is to learn a walk by heart, and to go back to where a reward was. An LSTM counts and
# remembers at a tenth of a Transformer's time. In a minute of training it got 14.3 of 16.5 in
# episode 20 where actions were drawn, and 16.5 where the most likely ones were taken.
_SEARCH_AD = {
    "num_episodes": 8,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "validation_share": 0.0,  # of 65 goals each counts
    "greedy": True,
    "policy_kwargs": {"memory": "lstm", "hidden_size": 128, "head": [64]},
}

# For histories of: metarl record thompson-sampling bandit-100x5 --num-tasks 10000.
_BANDITS_AD = {
    "batch_size": 64,
    "learning_rate": 3e-3,
    "policy_kwargs": {"memory": "lstm", "hidden_size": 64, "head": [64]},
}

# Nothing was searched for here. With actions that do not depend on the last one, the exact
# posterior gets 8.6 of 16.5 in episode 20.
_DARK_ROOM_DPT = {
    "num_episodes": 8,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "consistent": True,
}
# For histories of: metarl record thompson-sampling bandit-100x5 --num-tasks 10000
# --labels known-best-arm.
_BANDITS_DPT = {
    "batch_size": 128,
    "learning_rate": 4e-3,
    "policy_kwargs": {"hidden_size": 64, "num_layers": 1},
}

AD_PRESETS = (
    Preset("ad", "dark-room", 700, _SEARCH_AD, num_eval_tasks=400, num_eval_episodes=20),
    Preset("ad", "bandit-*", 1_500, _BANDITS_AD, num_eval_tasks=1000),
    Preset("ad", "*", 3_000, num_eval_tasks=400),
)
DPT_PRESETS = (
    Preset("dpt", "dark-room", 10_000, _DARK_ROOM_DPT, num_eval_tasks=400, num_eval_episodes=20),
    Preset("dpt", "bandit-*", 1_500, _BANDITS_DPT, num_eval_tasks=1000),
    Preset("dpt", "*", 3_000, num_eval_tasks=400),
)
PRESETS = (*AD_PRESETS, *DPT_PRESETS)
