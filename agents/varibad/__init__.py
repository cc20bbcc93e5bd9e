"""VariBAD. agent.py: the iteration; network.py: what acts; model.py, trials.py: what it learns."""

from metarl.agents.varibad.agent import VariBAD, VariBADConfig

__all__ = ["VariBAD", "VariBADConfig"]
