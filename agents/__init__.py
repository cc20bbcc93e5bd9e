"""Learners: meta-learners and the classical strategies they are measured against."""

from metarl.agents.base import MetaAgent
from metarl.agents.maml import MAML
from metarl.agents.rl2 import RL2

AGENTS: dict[str, type[MetaAgent]] = {"maml": MAML, "rl2": RL2}
"""The meta-learners by their names on the command line."""

__all__ = ["AGENTS", "MAML", "RL2", "MetaAgent"]
