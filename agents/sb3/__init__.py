"""Stable-Baselines3 on both sides: its algorithms train on our families, its policies are judged.

vec_env.py (families for SB3), adapter.py (its policies for ``evaluate``), multi_task.py and
fine_tune.py (what meta-learners are measured against, on SB3's PPO).
"""

from metarl.agents.sb3.adapter import SB3Agent
from metarl.agents.sb3.vec_env import TaskVecEnv

__all__ = ["SB3Agent", "TaskVecEnv"]
