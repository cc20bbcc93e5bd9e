"""Tuned hyperparameters of AD and DPT: the first pattern that matches a family counts."""

from metarl.agents.training.preset import Preset

# Histories: metarl record nearest-unvisited dark-room --num-tasks 1300 --num-episodes 8
# --noise-from 0.2 --labels known-goal. Sampled actions lead off the searcher's way now and then;
# with a few random actions the histories show how it gets back.
_DARK_ROOM_AD = {
    "num_episodes": 8,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "policy_kwargs": {"memory": "lstm", "hidden_size": 128},
}
_DARK_ROOM_DPT = {"num_episodes": 8, "batch_size": 32, "learning_rate": 2e-3}

# Histories: metarl record thompson-sampling bandit-100x5 --num-tasks 4000 --labels known-best-arm.
_BANDITS_DPT = {
    "learning_rate": 2e-3,
    "policy_kwargs": {"hidden_size": 32, "num_layers": 2},
}

AD_PRESETS = (
    Preset("ad", "dark-room", 1_500, _DARK_ROOM_AD, num_eval_tasks=400, num_eval_episodes=20),
    Preset("ad", "*", 3_000, num_eval_tasks=400),
)
DPT_PRESETS = (
    Preset("dpt", "dark-room", 1_500, _DARK_ROOM_DPT, num_eval_tasks=400, num_eval_episodes=20),
    Preset("dpt", "bandit-*", 3_000, _BANDITS_DPT, num_eval_tasks=1000),
    Preset("dpt", "*", 3_000, num_eval_tasks=400),
)
PRESETS = (*AD_PRESETS, *DPT_PRESETS)
