"""VariBAD: agent.py (the iteration), model.py (the networks), trials.py (what they learn from)."""

from metarl.agents.varibad.agent import VariBAD, VariBADConfig

__all__ = ["VariBAD", "VariBADConfig"]
