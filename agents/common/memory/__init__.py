"""Memories: what a policy keeps of a trial. contract.py says what one is, registry.py lists all."""
