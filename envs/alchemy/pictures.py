"""Pictures of an alchemist's table: stones, potions, and the cube with its edges."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.alchemy.chemistry import COORDINATES, EDGES, REWARDS

_WIDTH, _HEIGHT = 480, 320
_FINE = 4  # shapes are painted so many times larger, then shrunk: their edges are smooth
_INK, _PALE, _LINE, _GONE = (40, 40, 40), (250, 250, 248), (120, 120, 120), (222, 222, 218)
_GOOD, _BAD = (0, 130, 90), (213, 40, 30)
_COLORS = ((230, 120, 0), (0, 114, 178), (0, 158, 115), (204, 90, 165), (240, 200, 0), (90, 90, 90))
_WORTH = {-3: (213, 40, 30), -1: (235, 150, 130), 1: (140, 200, 170), 15: (0, 130, 90)}
_CENTER, _SCALE = (360, 175), 62  # of the cube


def draw_table(
    chemistry: Mapping[str, Any],
    corners: NDArray[Any],
    colors: NDArray[Any],
    unused: NDArray[np.bool_],
    seen: NDArray[np.float32],
    gain: float,
) -> NDArray[np.uint8]:
    """Return a picture: what the agent sees on the left, what it does not see on the right.

    Args:
        chemistry: The task.
        corners: Of the stones, of shape (3,).
        colors: Of the potions, of shape (12,).
        unused: Which of the stones, then of the potions, are left, of shape (15,).
        seen: The observation, of shape (39,).
        gain: The last reward.

    Returns:
        Pixels of shape (320, 480, 3).
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (_WIDTH * _FINE, _HEIGHT * _FINE), _PALE)
    paint = ImageDraw.Draw(image)

    def disc(x: float, y: float, radius: float, color: Any, ring: Any = None) -> None:
        box = [round(_FINE * v) for v in (x - radius, y - radius, x + radius, y + radius)]
        paint.ellipse(box, fill=color, outline=ring, width=2 * _FINE)

    texts: list[tuple[float, float, str, Any]] = [
        (12, 10, "stones", _INK),
        (12, 152, "potions", _INK),
    ]
    for stone, corner in enumerate(corners.tolist()):
        x, left = 44.0 + 72 * stone, bool(unused[stone])
        disc(x, 76, 26, _WORTH[int(REWARDS[corner])] if left else _GONE)
        if left:
            shown = ", ".join(f"{value:.0f}" for value in seen[5 * stone : 5 * stone + 3])
            texts += [(x - 12, 68, f"{REWARDS[corner]:+.0f}", "white"), (x - 26, 110, shown, _INK)]
    for potion, color in enumerate(colors.tolist()):
        x, y = 30 + 38 * (potion % 6), 196 + 48 * (potion // 6)
        disc(x, y, 14, _COLORS[color] if unused[len(corners) + potion] else _GONE)
    # The cube, drawn slanted: coordinate 2 goes into the depth.
    flat = _SCALE * (COORDINATES @ np.array([[1.0, 0.0], [0.0, -1.0], [0.42, -0.36]])) + _CENTER
    for exists, (dimension, low) in zip(chemistry["edges"], EDGES):
        ends = [tuple(_FINE * flat[end]) for end in (low, low | 1 << dimension)]
        if exists:
            paint.line([ends[0], ends[1]], fill=_LINE, width=3 * _FINE)
    for corner, (x, y) in enumerate(flat.tolist()):
        disc(x, y, 7, _WORTH[int(REWARDS[corner])])
    for corner in set(corners.tolist()):
        there = [str(stone + 1) for stone in np.flatnonzero((corners == corner) & unused[:3])]
        if there:
            x, y = flat[corner]
            disc(x, y, 12, None, _INK)
            texts.append((x + 11, y - 20, ", ".join(there), _INK))
    # What each color does: a bar beside the cube, along the dimension that it moves.
    for color, meaning in enumerate(chemistry["potions"]):
        axis, sign = "xyz"[meaning // 2], "+" if meaning % 2 else "-"
        x = 268.0 + 36 * color
        disc(x, 292, 8, _COLORS[color])
        texts.append((x + 10, 284, f"{axis}{sign}", _INK))
    texts.append((252, 10, "hidden: cube, colors", _INK))
    image = image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    paint = ImageDraw.Draw(image)
    for across, down, text, ink in texts:
        paint.text((across, down), text, fill=ink, font_size=13)
    if gain:
        paint.text((12, 284), f"reward {gain:+g}", _GOOD if gain > 0 else _BAD, font_size=18)
    return np.asarray(image)
