"""Histories: what an agent did while it adapted to tasks, recorded and read back as a data set."""

from metarl.data.histories import Batch, Histories, History, Windows
from metarl.data.minari import from_minari, to_minari
from metarl.data.recording import record

__all__ = ["Batch", "Histories", "History", "Windows", "from_minari", "record", "to_minari"]
