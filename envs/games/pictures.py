"""Pictures and texts of small board games, with the rules below."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.games.rules import SYMBOLS, in_words

_SQUARE, _FRAME, _LINE = 48, 8, 20  # pixels: of a square, the frame around the board, a line
_FINE = 4  # shapes are painted so many times larger, then shrunk: their edges are smooth

_INK, _PALE, _GRID = (40, 40, 40), (247, 247, 245), (222, 222, 218)
_GOOD, _BAD, _KEY = (0, 130, 90), (213, 40, 30), (240, 190, 0)
_COLORS = ((230, 120, 0), (0, 114, 178), (0, 158, 115), (204, 90, 165))
# Corners on the unit circle, in degrees: disc, square, triangle, diamond.
_SHAPES = (tuple(range(0, 360, 6)), (45, 135, 225, 315), (30, 150, 270), (0, 90, 180, 270))
_BORDERS = {"wall": (90, 90, 90), "wrap": (190, 215, 235), "trap": _BAD}


def draw_board(
    game: Mapping[str, Any],
    size: int,
    places: Sequence[int],
    heading: int,
    has_key: bool,
    gain: float,
) -> NDArray[np.uint8]:
    """Return a picture of one board.

    Args:
        game: The rules.
        size: The number of rows, and of columns.
        places: The squares of the player and of the objects.
        heading: The direction of the last move.
        has_key: Whether the player has the key.
        gain: The last reward.

    Returns:
        Pixels of shape (height, width, 3), whose height and width are multiples of 16.
    """
    from PIL import Image, ImageDraw

    lines = in_words(game)
    side = size * _SQUARE + 2 * _FRAME
    height = side + 16 * math.ceil((len(lines) * _LINE + _FRAME) / 16)
    image = Image.new("RGB", (side * _FINE, height * _FINE), "white")
    paint = ImageDraw.Draw(image)

    def box(left: float, top: float, right: float, bottom: float, color: Any) -> None:
        corners = [round(_FINE * v) for v in (left, top, right, bottom)]
        paint.rectangle([corners[0], corners[1], corners[2] - 1, corners[3] - 1], fill=color)

    def shape(corners: Sequence[float], x: float, y: float, radius: float, color: Any) -> None:
        turns = np.deg2rad(corners)
        points = zip(x + radius * np.cos(turns), y + radius * np.sin(turns))
        paint.polygon([(_FINE * a, _FINE * b) for a, b in points], fill=color)

    def center(place: int) -> tuple[float, float]:
        row, column = divmod(int(place), size)
        return _FRAME + _SQUARE * (column + 0.5), _FRAME + _SQUARE * (row + 0.5)

    box(0, 0, side, side, _BORDERS[game["border"]])
    box(_FRAME, _FRAME, side - _FRAME, side - _FRAME, _GRID)
    for place in range(size * size):
        x, y = center(place)
        box(x - 23.5, y - 23.5, x + 23.5, y + 23.5, _PALE)
    num_kinds = len(game["objects"])
    for number, place in enumerate(places[1:]):
        kind = number % num_kinds
        shape(_SHAPES[kind], *center(place), 15, _COLORS[kind])
    for kind in range(num_kinds):
        shape(_SHAPES[kind], 18, side + _LINE * (kind + 0.5) + 4, 8, _COLORS[kind])
    x, y = center(places[0])
    shape(_SHAPES[0], x, y, 17, _INK)
    facing = (270, 0, 90, 180)[heading]
    shape((facing, facing + 130, facing + 230), x, y, 13, _KEY if has_key else "white")
    image = image.resize((side, height), Image.Resampling.LANCZOS)
    paint = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        of_object = number < num_kinds  # whose picture stands for its symbol
        text, left = (line.split(" ", 1)[1], 34) if of_object else (line, 10)
        paint.text((left, side + _LINE * number + 5), text, fill=_INK, font_size=13)
    if gain:
        color = _GOOD if gain > 0 else _BAD
        text = f"{gain:+g}"
        width = paint.textlength(text, font_size=20) + 4
        corner = (min(x + 8, side - width), max(y - 28, 2))
        paint.text(corner, text, color, font_size=20, stroke_width=3, stroke_fill="white")
    return np.asarray(image)


def write_board(
    game: Mapping[str, Any],
    size: int,
    places: Sequence[int],
    heading: int,
    has_key: bool,
    gain: float,
) -> str:
    """Return one board as text, and the rules below; arguments as for :func:`draw_board`."""
    squares = np.full(size * size, ".")
    num_kinds = len(game["objects"])
    objects = SYMBOLS[:num_kinds] * (len(places[1:]) // num_kinds)
    squares[list(places)] = ["^>v<"[heading], *objects]
    rows = [" ".join(row) for row in squares.reshape(size, size)]
    state = f"last reward {gain:+g}, {'with' if has_key else 'without'} key"
    return "\n".join([*rows, "", state, *in_words(game)])
