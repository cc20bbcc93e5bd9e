"""Learning to learn from recorded histories: ad.py and dpt.py; learner.py is what they share."""

from metarl.agents.distill.ad import AD, ADConfig
from metarl.agents.distill.dpt import DPT, DPTConfig

__all__ = ["AD", "DPT", "ADConfig", "DPTConfig"]
