"""Families of tasks over the characters of the fonts that matplotlib ships, drawn as pictures."""

import functools
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.distribution import TaskDistribution
from metarl.envs.images.few_shot import few_shot
from metarl.envs.images.pictures import Bytes, Pictures, Variation

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")

FRAME = 28  # pixels
VARIATION = Variation(
    size=(0.7, 0.95),
    rotation=10.0,
    stretch=0.2,
    shear=0.1,
    darkest=(30, 90),
    gain=2,
    noise=8.0,
)

_INK = 40  # pixels: the longer side of a glyph
_SIDE = _INK + 2  # with a black edge, which continues beyond the picture
_ALIKE = 0.9  # above this correlation two characters count as the same
_KIND_SIZES = range(5, 61)
_COHERENT = 0.3  # above this mean correlation a kind is visible


@functools.cache
def _drawn() -> tuple[Bytes, dict[str, list[int]]]:
    """Return all glyphs, white on black, of shape (n, side, side, 1), and each character's rows."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    drawings: dict[tuple[str, bytes], None] = {}  # styles of a font share many, all cats among them
    for name in FONTS:
        path = f"{get_data_path()}/fonts/ttf/{name}.ttf"
        font = ImageFont.truetype(path, _INK, layout_engine=ImageFont.Layout.BASIC)
        for character in filter(_stands_alone, map(chr, sorted(FT2Font(path).get_charmap()))):
            drawing = _draw(font, character)
            if any(drawing):
                drawings[character, drawing] = None
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, (character, _) in enumerate(drawings):
        rows[character].append(row)
    pixels = np.frombuffer(b"".join(drawing for _, drawing in drawings), dtype=np.uint8)
    return _soften(pixels.reshape(-1, _SIDE, _SIDE))[..., None], dict(rows)


def _stands_alone(character: str) -> bool:
    """Return whether a character is no mark, control, space or small copy of another."""
    category = unicodedata.category(character)
    small = unicodedata.decomposition(character).startswith(("<super>", "<sub>"))
    return category[0] not in "MCZ" and category not in ("Lm", "Sk") and not small


def _draw(font: Any, character: str) -> bytes:
    """Return the pixels of a character drawn as large as fits, in the middle; zeros if blank."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (4 * _INK, 4 * _INK))
    ImageDraw.Draw(canvas).text((_INK, _INK), character, fill=255, font=font)
    picture = Image.new("L", (_SIDE, _SIDE))
    if box := canvas.getbbox():
        lengths = np.array([box[2] - box[0], box[3] - box[1]])
        width, height = np.maximum(1, np.rint(_INK / lengths.max() * lengths)).astype(int).tolist()
        ink = canvas.resize((width, height), Image.Resampling.BILINEAR, box)
        picture.paste(ink, ((_SIDE - width) // 2, (_SIDE - height) // 2))
    return picture.tobytes()


def _soften(pictures: Bytes) -> Bytes:
    """Blur by (1, 2, 1) / 4 along both axes; edges stay black."""
    for axis in (1, 2):
        wide = np.moveaxis(pictures, axis, 0).astype(np.uint16)
        wide[1:-1] = (wide[:-2] + 2 * wide[1:-1] + wide[2:]) // 4
        pictures = np.moveaxis(wide.astype(np.uint8), 0, axis)
    return np.ascontiguousarray(pictures)


def _words(character: str) -> list[str]:
    return unicodedata.name(character, "").split()


def is_held_out(character: str) -> bool:
    """Return whether a character is held out.

    A fifth is held out, by a hash of the letter without accents and case, so that all forms of a
    letter, in all fonts, are on one side; so are all faces, and with them all cats.
    """
    letter = unicodedata.normalize("NFKD", character)[0].casefold()
    return zlib.crc32(letter.encode()) % 5 == 0 or "FACE" in _words(character)


@functools.cache
def characters() -> Pictures:
    """Return the characters as classes: the pictures of one are its drawings in several fonts.

    Of characters that look almost alike (a Latin, a Greek and a Cyrillic A) there is one.
    """
    pixels, rows = _drawn()
    names = sorted(rows)
    alike = _different(pixels[[rows[name][0] for name in names], ..., 0])
    kept = [name for name, keep in zip(names, alike) if keep]
    return Pictures.gather(
        pixels,
        {name: rows[name] for name in kept},
        {
            "train": [name for name in kept if not is_held_out(name)],
            "held_out": [name for name in kept if is_held_out(name)],
        },
    )


def _different(pictures: Bytes) -> NDArray[np.bool_]:
    """Return which pictures resemble no kept one before them, of shape (n,)."""
    flat = _standardized(pictures)
    kept = np.zeros(len(flat), dtype=np.bool_)
    for start in range(0, len(flat), 256):  # all correlations at once would not fit
        alike = flat[start : start + 256] @ flat[: start + 256].T > _ALIKE
        for i, row in enumerate(alike, start=start):
            kept[i] = not (row[:i] & kept[:i]).any()
    return kept


def _standardized(pictures: Bytes) -> NDArray[np.float32]:
    """Return pictures at half the size as vectors whose products are correlations."""
    half = _SIDE // 2
    small = pictures.reshape(-1, half, 2, half, 2).mean(axis=(2, 4), dtype=np.float32)
    flat = small.reshape(len(small), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat)


def _coherence(drawings: NDArray[np.float32]) -> float:
    """Return the mean correlation of different drawings, given as :func:`_standardized` does."""
    num = len(drawings)
    return float((np.square(drawings.sum(axis=0)).sum() - num) / (num * (num - 1)))


@functools.cache
def kinds() -> Pictures:
    """Return kinds of characters as classes, each with the class of all that is not of the kind.

    A kind is a word of the Unicode standard: all characters that have it in their name. ``CAT`` is
    one, ``CHESS``, ``HEART`` and ``STAR`` are others. Words that cannot be seen, such as ``SHORT``,
    are left out: drawings of a kind's characters must have a mean correlation of 0.3. That of any
    two characters is 0.15, of two cats 0.75.
    """
    pixels, rows = _drawn()
    having: defaultdict[str, set[str]] = defaultdict(set)
    for character in rows:
        for word in _words(character):
            having[word].add(character)
    held_out = {character for character in rows if is_held_out(character)}
    seen = rows.keys() - held_out
    kinds = {word: some & seen for word, some in having.items()}
    rank = {character: place for place, character in enumerate(rows)}
    drawings = _standardized(pixels[[some[0] for some in rows.values()], ..., 0])
    kinds = {
        word: some
        for word, some in kinds.items()
        if len(some) in _KIND_SIZES
        and _coherence(drawings[[rank[character] for character in some]]) > _COHERENT
    }
    faces, cats = having["FACE"], having["CAT"]
    evaluated = {"CAT": cats, "not CAT": held_out - faces, "other FACE": faces - cats}
    classes: dict[str, Any] = {
        name: sorted(chain.from_iterable(rows[character] for character in some))
        for name, some in {**kinds, **evaluated, "seen": seen}.items()
    }
    everything = classes.pop("seen")
    classes |= {f"not {word}": np.setdiff1d(everything, classes[word]) for word in kinds}
    return Pictures.gather(
        pixels,
        classes,
        {
            "train": [(word, f"not {word}") for word in sorted(kinds)],
            "held_out": [("CAT", "not CAT")],
            "faces": [("CAT", "other FACE")],
        },
    )


def glyphs_nway(ways: int) -> TaskDistribution:
    """The family of characters to be recognised, N at a time.

    A class is a character, in several fonts. Characters of ``held_out`` are none of ``train``.

    Args:
        ways: N.

    Raises:
        ValueError: If ``ways`` is below 2.
    """
    return few_shot(
        f"glyphs-{ways}way",
        characters,
        ways=ways,
        frame=FRAME,
        variation=VARIATION,
        description=f"name the class of drawn characters, {ways} classes",
    )


def glyphs_cats() -> TaskDistribution:
    """The family of characters of one kind among others; it is evaluated on cats.

    A task has two classes, which in one task are 0 and 1 and in another 1 and 0: a kind, and what
    is not of that kind (see :func:`kinds`). Half of the pictures are of the kind. In training, all
    are of some 5,500 characters; kinds are words such as ``CHESS``, ``HEART``, ``OGONEK``.
    In ``held_out`` the kind is ``CAT``, ten faces of cats, and the others are 1,300 characters that
    are no faces. In ``faces``, the others are 60 other faces, mostly people's, so that only ears
    and whiskers distinguish them. No cat and no other face is in ``train``.

    After five labelled pictures, an agent has seen two or three of the ten cats, so most questions
    are about a cat that it has not seen.
    """
    return few_shot(
        "glyphs-cats",
        kinds,
        ways=2,
        frame=FRAME,
        variation=VARIATION,
        splits=("train", "held_out", "faces"),
        description="distinguish characters of one kind from others; evaluated on cats",
    )


FAMILIES: dict[str, Callable[..., TaskDistribution]] = {
    **{f"glyphs-{ways}way": functools.partial(glyphs_nway, ways) for ways in (5, 20)},
    "glyphs-cats": glyphs_cats,
}


def parse_glyphs(name: str) -> TaskDistribution | None:
    """Parse names such as ``glyphs-5way``; None for any other name."""
    match = re.fullmatch(r"glyphs-(\d+)way", name)
    return glyphs_nway(int(match[1])) if match else None
