"""RL²: agent.py (the iteration), presets.py."""

from metarl.agents.rl2.agent import RL2, RL2Config

__all__ = ["RL2", "RL2Config"]
