"""Draw the pictures of the families: ``python docs/pictures.py`` writes docs/images/families."""

from pathlib import Path

import numpy as np
from PIL import Image

from metarl import envs

FOLDER = Path(__file__).parent / "images" / "families"
HEIGHT = 240  # pixels
STEPS = 12  # of random actions, so that paths and poses differ
PICTURES = {
    "bodies": ("half-cheetah-dir", "walker2d-params", "hopper-params", "ant-goal", "humanoid-dir"),
    "ground": ("half-cheetah-slope", "half-cheetah-terrain"),
    "navigation": ("gridnavi", "dark-room", "navigation-2d", "navigation-sparse"),
    "games": ("games-5x5", "games-7x7"),
    "images": ("glyphs-5way", "glyphs-cats"),
    "alchemy": ("alchemy",),
    "classic_control": ("cart-pole-200", "pendulum", "acrobot"),
}


def picture(name: str, seed: int = 0) -> Image.Image:
    """Return the picture of a held-out task after some random actions."""
    tasks = envs.make(name)
    env = tasks.make_vec(1, render_mode="rgb_array")
    env.set_tasks(tasks.sample("held_out", 1, seed=seed))
    env.reset(seed=seed)
    env.action_space.seed(seed)
    frame = env.render()[0]
    for _ in range(STEPS):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated[0] or truncated[0]:
            break
        frame = env.render()[0]
    env.close()
    image = Image.fromarray(np.asarray(frame))
    return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.LANCZOS)


def beside(images: list[Image.Image], gap: int = 8) -> Image.Image:
    """Return images in rows of two or three, large enough for a phone."""
    columns = 3 if len(images) % 2 else 2
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    widths = [sum(image.width + gap for image in row) - gap for row in rows]
    size = max(widths), len(rows) * (HEIGHT + gap) - gap
    sheet = Image.new("RGBA", size)  # transparent between images, whatever the page's colour
    for number, (row, width) in enumerate(zip(rows, widths)):
        left = (size[0] - width) // 2
        for image in row:
            sheet.paste(image, (left, number * (HEIGHT + gap)))
            left += image.width + gap
    return sheet


def main() -> None:
    """Write the pictures of each group."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for group, names in PICTURES.items():
        sheet = beside([picture(name) for name in names])
        sheet.save(FOLDER / f"{group}.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
