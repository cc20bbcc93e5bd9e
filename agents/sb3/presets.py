"""Hyperparameters of the baselines on Stable-Baselines3's PPO, the same for all families."""

from metarl.agents.training.preset import Preset

# The policy keeps learning from few episodes: small steps, and rounds of five episodes.
_BASELINE = {
    "num_envs": 128,
    "batch_size": 1600,
    "learning_rate": 1e-3,
    "anneal": True,
}

PRESETS: tuple[Preset, ...] = (
    Preset("multi-task", "*", None, _BASELINE, num_eval_tasks=400),
    Preset("fine-tune", "*", None, _BASELINE, num_eval_tasks=40, num_eval_episodes=40),
    Preset("from-scratch", "*", 1, num_eval_tasks=40, num_eval_episodes=40),
)
