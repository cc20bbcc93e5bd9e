"""The rules of small board games, as data: all rules, valid combinations, and their texts."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.errors import InvalidValueError, check_at_least
from metarl.parameters import Choice, Parameter, Table
from metarl.splits import Columns, TaskSet

ROLES = ("nothing", "treasure", "trap", "key", "door")
"""The roles of objects."""

MOTIONS = ("step", "turn", "slide")
"""How an action moves the player."""

BORDERS = ("wall", "wrap", "trap")
"""What is at the border of the board."""

NEW_COMBINATION = ("trap", "key")
"""Roles that never meet in one game of training, where combinations are held out."""

NEW_RULES = ("slide", "wrap")
"""A motion and a border that never meet there."""

UNSEEN_MOTION = "turn"
UNSEEN_ROLE = "door"

SEEN_CONTROLS = ((0, 1, 2, 3), (0, 3, 2, 1), (2, 1, 0, 3))
"""The controls of training: normal, left and right swapped, up and down swapped.

If all 24 were equally likely, no action would be better than another before the controls are known,
and agents with a memory would learn next to nothing from their rewards.
"""

# Less than a treasure, so that trying unknown objects pays off.
TRAP_COST, BORDER_COST = 0.5, 0.25

SYMBOLS = "abcd"
"""What objects are called in texts: a letter for each kind."""


def rules(num_kinds: int) -> dict[str, Parameter]:
    """Return the parameters of a game with ``num_kinds`` kinds of objects.

    Raises:
        ValueError: If there are fewer than 2 kinds, or more than can be drawn.
    """
    check_at_least(2, num_kinds=num_kinds)
    if num_kinds > len(SYMBOLS):
        raise InvalidValueError(f"num_kinds must be at most {len(SYMBOLS)}, got {num_kinds}")
    roles = tuple(
        row
        for row in itertools.product(ROLES, repeat=num_kinds)
        if row.count("treasure") == 1 and row.count("key") <= 1
    )
    return {
        "objects": Table(
            roles,
            f"the rule that {num_kinds} objects, each of {', '.join(ROLES)}, have exactly one "
            "treasure, without which nothing can be won, and at most one key to it",
        ),
        "controls": Table(
            tuple(itertools.permutations(range(4))),
            "the rule that four actions have the directions 0 to 3, each once",
        ),
        "motion": Choice(MOTIONS),
        "border": Choice(BORDERS),
        "restless": Choice((False, True)),
    }


def splits(parameters: Mapping[str, Parameter], compositions: bool) -> dict[str, TaskSet]:
    """Divide all games: training never meets a door, a game of turns, or other controls.

    Args:
        parameters: Those of :func:`rules`.
        compositions: Whether training lacks ``NEW_COMBINATION`` and ``NEW_RULES``, too. Without
            that, every held-out game is one of training with its symbols exchanged.
    """

    def unseen(game: Columns) -> NDArray[np.bool_]:
        seen = (game["controls"][:, None] == np.array(SEEN_CONTROLS)).all(axis=2).any(axis=1)
        return np.asarray(~seen | (game["motion"] == UNSEEN_MOTION))

    def has_door(game: Columns) -> NDArray[np.bool_]:
        return np.asarray((game["objects"] == UNSEEN_ROLE).any(axis=1))

    def combines(game: Columns) -> NDArray[np.bool_]:
        has = [(game["objects"] == role).any(axis=1) for role in NEW_COMBINATION]
        return np.asarray(np.logical_and(*has))

    def has_new_rules(game: Columns) -> NDArray[np.bool_]:
        motion, border = NEW_RULES
        return np.asarray((game["motion"] == motion) & (game["border"] == border))

    every = TaskSet.product(parameters)
    usual = every.where(lambda g: ~unseen(g) & ~has_door(g))
    held_out_too = {}
    if compositions:
        held_out_too = {
            "new_combinations": usual.where(lambda g: combines(g) & ~has_new_rules(g)),
            "new_rules": usual.where(lambda g: ~combines(g) & has_new_rules(g)),
        }
        usual = usual.where(lambda g: ~combines(g) & ~has_new_rules(g))
    train, held_out = usual.split(0.8, seed=0)
    return {
        "train": train,
        "held_out": held_out,
        **held_out_too,
        "unseen_controls": every.where(lambda g: unseen(g) & ~has_door(g)),
        "unseen_objects": every.where(lambda g: ~unseen(g) & has_door(g)),
    }


def in_words(game: Mapping[str, Any]) -> list[str]:
    """Return the rules of one game in words: a line for each object, then the others'."""
    has_key = "key" in game["objects"]
    meaning = {
        "nothing": "nothing",
        "treasure": "treasure +1, with the key" if has_key else "treasure +1",
        "trap": f"trap -{TRAP_COST}",
        "key": "the key to the treasure",
        "door": "door to anywhere",
    }
    ways = ("up", "right", "down", "left")
    if game["motion"] == "turn":
        ways = ("ahead", "right", "back", "left")
    actions = ", ".join(ways[way] for way in game["controls"])
    motion = {"step": "step", "turn": "turn and go", "slide": "slide"}[game["motion"]]
    border = {"wall": "a wall", "wrap": "open: wraps round", "trap": f"a trap -{BORDER_COST}"}[
        game["border"]
    ]
    return [
        *(f"{symbol} {meaning[role]}" for symbol, role in zip(SYMBOLS, game["objects"])),
        f"actions: {motion} {actions}",
        f"border: {border}",
        f"objects: {'restless' if game['restless'] else 'at rest'}",
    ]
