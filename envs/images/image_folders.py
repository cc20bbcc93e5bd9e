"""Few-shot recognition of pictures of your own: a folder with one subfolder for each class."""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metarl.distribution import TaskDistribution
from metarl.envs.images.few_shot import few_shot
from metarl.envs.images.pictures import Bytes, Pictures, Variation
from metarl.errors import InvalidValueError, check_at_least, check_names
from metarl.seeding import stream

VARIATION = Variation(
    size=(1.05, 1.4),
    rotation=10.0,
    stretch=0.1,
    mirrored=True,
    darkest=(0, 40),
    noise=4.0,
)

PREFIX = "image-folder:"
"""What the name of such a family begins with; the folder's path follows."""

MIN_PICTURES = 5
"""The fewest pictures of a class: with fewer, the picture just shown would be asked again."""

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read, whatever the file name; Pillow passes others to other programs."""
_MAX_PIXELS = 50_000_000
"""Of a picture that is decoded, which takes some times 4 bytes for each."""
_HELD_OUT_SHARE = 0.25


def image_folder(
    path: str | Path,
    *,
    ways: int = 2,
    held_out: Sequence[str] | None = None,
    image_size: int = 32,
    color: bool = True,
) -> TaskDistribution:
    """The family of recognising classes of pictures in a folder.

    The folder has one subfolder for each class, with its pictures in it and in folders below. They
    are cropped to their central square, scaled down and kept in memory. A presentation shows a part
    of one, slightly rotated, often mirrored, lighter or darker. Held-out classes are never used in
    training: a few labelled pictures of a new class must be enough.

    Args:
        path: The folder.
        ways: N, the number of classes of a task.
        held_out: The names of the classes that are held out; None takes a quarter of them, always
            the same ones as long as the classes are the same, and at least ``ways``.
        image_size: The side of an observed image, in pixels.
        color: Whether images are in colour (three channels) or grey (one).

    Returns:
        The family. Its name, ``image-folder:PATH``, makes it with the default options.

    Raises:
        ValueError: If the folder has no class, a class too few pictures, a picture cannot be
            read, a split has fewer than ``ways`` classes, or a class held out does not exist.
    """
    check_at_least(2, ways=ways)
    check_at_least(8, image_size=image_size)
    folder = Path(path)
    train, test = _divide(folder, [sub.name for sub in _classes(folder)], ways, held_out)
    source = functools.partial(
        _read, folder.absolute(), tuple(train), tuple(test), 2 * image_size, color
    )
    source()  # fail now if a picture is damaged
    return few_shot(
        f"{PREFIX}{path}",
        source,
        ways=ways,
        frame=image_size,
        variation=VARIATION,
        description=f"name the class of pictures in {path}, {ways} classes",
    )


def _classes(folder: Path) -> list[Path]:
    """Return the subfolders that are classes.

    Raises:
        ValueError: If there is none.
    """
    if not folder.is_dir():
        raise InvalidValueError(f"there is no folder {str(folder)!r}")
    visible = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    classes = [entry for entry in visible if entry.is_dir()]
    if not classes:
        content = f"{len(visible)} files" if visible else "nothing"
        raise InvalidValueError(
            f"the folder {str(folder)!r} contains {content}; expected one subfolder of pictures "
            f"for each class, such as {str(folder / 'cat')!r}"
        )
    return classes


def _divide(
    folder: Path, names: list[str], ways: int, held_out: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return the names of the classes of train and of held_out.

    Raises:
        ValueError: If one of them has fewer than ``ways``, or a name is unknown.
    """
    if held_out is None:
        if len(names) < 2 * ways:
            raise InvalidValueError(
                f"tasks of {ways} classes need {ways} training classes and {ways} held-out ones, "
                f"but {str(folder)!r} has only {len(names)}: {', '.join(names)}; add classes or "
                "lower ways"
            )
        size = max(ways, round(_HELD_OUT_SHARE * len(names)))
        order = np.random.default_rng(stream(0, "held_out")).permutation(len(names))
        held_out = [names[place] for place in order[:size]]
    check_names(held_out, names, f"class of {str(folder)!r}:")
    test = [name for name in names if name in held_out]
    train = [name for name in names if name not in held_out]
    for split, some in (("train", train), ("held_out", test)):
        if len(some) < ways:
            raise InvalidValueError(
                f"tasks of {ways} classes need at least {ways} in every split, but {split} has "
                f"{len(some)} of {str(folder)!r}: {', '.join(some) or 'none'}; "
                "change held_out or lower ways"
            )
    return train, test


@functools.cache
def _read(
    folder: Path, train: tuple[str, ...], held_out: tuple[str, ...], side: int, color: bool
) -> Pictures:
    """Read all pictures of the classes."""
    pixels: list[Bytes] = []
    rows = {}
    for name in (*train, *held_out):
        files = [
            file
            for file in sorted((folder / name).rglob("*"))
            if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
        ]
        if len(files) < MIN_PICTURES:
            raise InvalidValueError(
                f"the class {name!r} has {len(files)} pictures in {str(folder / name)!r}; expected "
                f"at least {MIN_PICTURES} ({', '.join(_SUFFIXES)})"
            )
        rows[name] = range(len(pixels), len(pixels) + len(files))
        pixels += [_square(file, side, color) for file in files]
    return Pictures.gather(np.array(pixels), rows, {"train": train, "held_out": held_out})


def _square(file: Path, side: int, color: bool) -> Bytes:
    """Return the middle of a picture, of shape (side, side, channels).

    Raises:
        ValueError: If it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        if not file.is_file():  # a pipe would be waited for
            raise ValueError("it is not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(file, formats=_FORMATS)
        with image:
            image.draft("RGB", (2 * side, 2 * side))  # photographs are many times too large
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(
                    f"it has {image.width} x {image.height} pixels, more than {_MAX_PIXELS:,}"
                )
            upright = ImageOps.exif_transpose(image).convert("RGB" if color else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidValueError(
            f"the picture {str(file)!r} cannot be read ({error}); remove it or save it again"
        ) from error
    small = ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(side, side, -1)


def parse_image_folder(name: str) -> TaskDistribution | None:
    """Make the family of ``image-folder:PATH``; None for any other name.

    Raises:
        ValueError: If there is no path, or as :func:`image_folder`.
    """
    if not name.startswith(PREFIX):
        return None
    path = name.removeprefix(PREFIX)
    if not path:
        raise InvalidValueError(f"{name!r} lacks the folder; for example 'image-folder:photos'")
    return image_folder(path)
