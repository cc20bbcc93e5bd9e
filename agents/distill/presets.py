"""Hyperparameters of AD and DPT: the first pattern that matches a family counts.

They are starting points: nothing was searched for.
"""

from metarl.agents.training.preset import Preset

# For histories of: metarl record nearest-unvisited dark-room --num-tasks 1300 --num-episodes 8
# --noise-from 0.2 --labels known-goal. Sampled actions lead off the searcher's way now and then;
# with a few random actions the histories show how it goes on from there.
_DARK_ROOM = {"num_episodes": 8, "batch_size": 16, "learning_rate": 2e-3}

# For histories of: metarl record thompson-sampling bandit-100x5 --num-tasks 4000
# --labels known-best-arm.
_BANDITS_DPT = {
    "learning_rate": 2e-3,
    "policy_kwargs": {"hidden_size": 32, "num_layers": 2},
}

AD_PRESETS = (
    Preset("ad", "dark-room", 10_000, _DARK_ROOM, num_eval_tasks=400, num_eval_episodes=20),
    Preset("ad", "*", 3_000, num_eval_tasks=400),
)
DPT_PRESETS = (
    Preset("dpt", "dark-room", 10_000, _DARK_ROOM, num_eval_tasks=400, num_eval_episodes=20),
    Preset("dpt", "bandit-*", 3_000, _BANDITS_DPT, num_eval_tasks=1000),
    Preset("dpt", "*", 3_000, num_eval_tasks=400),
)
PRESETS = (*AD_PRESETS, *DPT_PRESETS)
