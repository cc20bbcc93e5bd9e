"""Stable-Baselines3 in both directions: its algorithms train on our families and are evaluated.

vec_env.py (families for SB3), adapter.py (its policies for ``evaluate``), multi_task.py and
fine_tune.py (baselines on SB3's PPO).
"""

from metarl.agents.sb3.adapter import SB3Agent
from metarl.agents.sb3.vec_env import TaskVecEnv

__all__ = ["SB3Agent", "TaskVecEnv"]
