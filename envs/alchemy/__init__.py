"""Symbolic Alchemy: stones, potions and a hidden chemistry."""
