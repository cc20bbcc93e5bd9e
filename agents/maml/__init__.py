"""MAML: agent.py (the iteration), adaptation.py (acting), policy.py, inner.py, outer.py (steps)."""

from metarl.agents.maml.agent import MAML, MAMLConfig

__all__ = ["MAML", "MAMLConfig"]
