"""Learners: meta-learners and the classical strategies they are measured against."""

from metarl.agents.base import MetaAgent
from metarl.agents.rl2 import RL2

__all__ = ["RL2", "MetaAgent"]
