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


def main() -> None:
    """Write each group's pictures side by side."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for group, names in PICTURES.items():
        drawn = [picture(name) for name in names]
        gap = 8
        width = sum(image.width + gap for image in drawn) - gap
        row = Image.new("RGB", (width, HEIGHT), "white")
        left = 0
        for image in drawn:
            row.paste(image, (left, 0))
            left += image.width + gap
        row.save(FOLDER / f"{group}.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
