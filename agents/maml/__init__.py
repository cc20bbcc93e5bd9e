"""MAML: agent.py (the iteration), adaptation.py (acting), policy.py, inner.py, outer.py (steps).

variants.py has its relatives by name.
"""

from metarl.agents.maml.agent import MAML, MAMLConfig
from metarl.agents.maml.variants import ANIL, EMAML, FOMAML, ProMP, Reptile

__all__ = ["ANIL", "EMAML", "FOMAML", "MAML", "MAMLConfig", "ProMP", "Reptile"]
