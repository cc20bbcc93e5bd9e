"""A video of an agent that adapts: its first and its last episode in a task, side by side."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import (
    Adaptation,
    Agent,
    Task,
    TaskDistribution,
    Tasks,
    TaskVectorEnv,
    Transition,
    rollout,
)
from metarl.batches import take
from metarl.errors import InvalidValueError, MissingPackageError, check_at_least
from metarl.evaluation.play import check_spaces
from metarl.experiments.reports.beliefs import belief_pictures
from metarl.files import atomic_write
from metarl.seeding import stream, stream_seed
from metarl.spaces import Values

Array = NDArray[Any]
Picture = NDArray[np.uint8]

_DRAWN = 8  # tasks
_LINE = 14  # pixels
_LETTER = 6  # pixels, on average
_COLORS = ("#D55E00", "#0072B2")  # of the first and of the last episode's heading


def record_adaptation(
    agent: Agent,
    tasks: TaskDistribution,
    path: str | Path,
    *,
    split: str = "held_out",
    task: Task | None = None,
    num_episodes: int | None = None,
    seed: int = 0,
    deterministic: bool = False,
) -> Path:
    """Let an agent adapt to one task and film its first and its last episode there.

    Below each picture: the episode, the step, the return so far, the parameters of the task, and
    what the agent takes them for, if it was trained to predict them (``task_prediction_coef``). A
    VariBAD agent's belief over a grid is painted under the grid: the brighter a cell, the more
    reward it expects there.

    The agent adapts in a batch without pictures; then a single environment with the same seed
    repeats the two episodes action by action, for the camera.

    Args:
        agent: Anything with an ``adaptation`` method.
        tasks: The family; its environments must be able to draw themselves.
        path: Where to write: ``.gif`` or ``.mp4``.
        split: The split to draw the task from.
        task: The task; None takes the first of up to 8 drawn tasks in which the last episode's
            return is above the first's, or the first drawn if there is none.
        num_episodes: How many episodes the agent has; None takes the family's, and at least one
            adaptation of the agent's and one episode after it.
        seed: The seed of everything.
        deterministic: Whether the agent takes its most likely actions.

    Returns:
        The path.

    Raises:
        ImportError: If imageio is missing.
        RuntimeError: If there is no OpenGL to draw with.
        ValueError: If the family cannot be drawn, or the file is of another kind.
    """
    path = Path(path)
    if path.suffix not in (".gif", ".mp4"):
        raise InvalidValueError(f"a video is a .gif or .mp4 file, got {path.name!r}")
    _import_imageio()
    _camera(tasks).close()  # raises before anything is played
    if task is None:
        for task in tasks.sample(split, _DRAWN, stream(seed, "video")):
            _, returns = _play(agent, tasks, task, num_episodes, seed, deterministic)
            if returns[-1] > returns[0]:
                break
        else:
            task = None
    pictures, fps = _film(agent, tasks, split, task, num_episodes, seed, deterministic)
    _write(path, pictures, fps)
    return path


def last_picture(
    agent: Agent,
    tasks: TaskDistribution,
    *,
    split: str = "held_out",
    task: Task | None = None,
    num_episodes: int | None = None,
    seed: int = 0,
) -> bytes:
    """Return the end of such a video as PNG.

    Args:
        agent: As for :func:`record_adaptation`.
        tasks: The same.
        split: The same.
        task: The same.
        num_episodes: The same.
        seed: The same.

    Raises:
        ImportError: If imageio is missing.
        RuntimeError: If there is no OpenGL to draw with.
        ValueError: If the family cannot be drawn.
    """
    imageio = _import_imageio()
    pictures, _ = _film(agent, tasks, split, task, num_episodes, seed, deterministic=False)
    return bytes(imageio.imwrite("<bytes>", pictures[-1], extension=".png"))


def _film(
    agent: Agent,
    tasks: TaskDistribution,
    split: str,
    task: Task | None,
    num_episodes: int | None,
    seed: int,
    deterministic: bool,
) -> tuple[list[Picture], float]:
    """Return the pictures of a video, and how many are shown in a second."""
    camera = _camera(tasks)
    try:
        if task is None:
            task = tasks.sample(split, 1, stream(seed, "video"))[0]
        episodes, _ = _play(agent, tasks, task, num_episodes, seed, deterministic)
        lived = [step.transition for steps in episodes for step in steps]
        beliefs = belief_pictures(agent, tasks, lived)
        camera.set_tasks([task])
        # As in `_play`: sub-environment 0 and the camera's live alike.
        camera.reset(seed=stream_seed(stream(seed, "video"), "env"))
        films: list[list[tuple[Picture, tuple[str, str]]]] = []
        for number, steps in enumerate(episodes, start=1):
            if number in (1, len(episodes)):
                films.append(list(_replay(camera, steps)))
            else:  # it must pass, to leave the environment as it was
                for step in steps:
                    camera.step(step.action)
        # 30, as gymnasium's own recorder takes where an environment does not say.
        fps = float(camera.metadata.get("render_fps") or 30)
    finally:
        camera.close()
    sizes = sorted({picture.shape[:2] for film in films for picture, _ in film})
    if len(sizes) > 1:
        raise InvalidValueError(
            f"the pictures of a video must have one size, {tasks.name} gave {sizes[0]} and "
            f"{sizes[-1]} (height, width)"
        )
    if beliefs:
        ends = (beliefs[: len(films[0])], beliefs[len(beliefs) - len(films[-1]) :])
        films = [
            [(_under(picture, belief), lines) for (picture, lines), belief in zip(film, under)]
            for film, under in zip((films[0], films[-1]), ends)
        ]
    seen = "given to the agent" if tasks.view.get("oracle") else "hidden from the agent"
    parameters = f"{seen}: {_shown(task, tasks)}"
    of = len(episodes)
    headings = (f"first episode (1 of {of})", f"last episode ({of} of {of})")
    halves = [
        [
            (picture, _wrapped(picture, (heading, progress, parameters, guess)))
            for picture, (progress, guess) in film
        ]
        for film, heading in zip((films[0], films[-1]), headings)
    ]
    rows = max(len(lines) for half in halves for _, lines in half)
    first, last = (
        [_captioned(picture, lines, rows, color) for picture, lines in half]
        for half, color in zip(halves, _COLORS)
    )
    return [_beside(*pair) for pair in _hold_last(first, last)], fps


def _camera(tasks: TaskDistribution) -> TaskVectorEnv:
    try:
        return tasks.make_vec(1, render_mode="rgb_array")
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"{tasks.name} cannot be filmed: it has no render_mode='rgb_array'"
        ) from error


@dataclass(frozen=True, eq=False)
class _Step:
    """What an agent did, saw and thought in a step.

    Attributes:
        transition: The step, in all environments.
        action: The action in the first of them, as a batch of one.
        guess: A line on what the agent took the task for; may be empty.
    """

    transition: Transition
    action: Values
    guess: str


def _play(
    agent: Agent,
    tasks: TaskDistribution,
    task: Task,
    num_episodes: int | None,
    seed: int,
    deterministic: bool,
) -> tuple[list[list[_Step]], list[float]]:
    """Let the agent adapt; return the first sub-environment's steps, by episode, and returns."""
    parallel = agent.episodes_per_adaptation
    if num_episodes is None:
        num_episodes = max(tasks.episodes_per_trial, parallel + 1)
    check_at_least(1, num_episodes=num_episodes)
    adaptation = agent.adaptation(
        1, seed=stream(stream(seed, "video"), "agent"), deterministic=deterministic
    )
    episodes: list[list[_Step]] = [[]]

    def record(step: Transition) -> bool:
        if step.active[0]:
            action = take(step.actions, [0])  # a copy
            episodes[-1].append(_Step(step, action, _guess(adaptation, tasks)))
            if step.episode_end[0]:
                episodes.append([])
        return True

    # Learners that adapt by K episodes get them side by side: the first of each round is kept.
    with closing(tasks.make_vec(parallel)) as env:
        check_spaces(agent, tasks, env)
        env.set_tasks(Tasks.stack([task]).repeat(parallel))
        observations, _ = env.reset(seed=stream_seed(stream(seed, "video"), "env"))
        rounds = math.ceil(num_episodes / parallel)
        played = rollout(env, observations, adaptation, rounds, record)
    return episodes[:-1], played.returns[0].tolist()


def _guess(adaptation: Adaptation, tasks: TaskDistribution) -> str:
    """Return a line on what an agent takes the task for; nothing if it does not tell."""
    predicted = getattr(adaptation, "predicted_task", lambda: None)()
    columns = {} if predicted is None else tasks.decode(predicted)
    if not columns:
        return ""
    guess = Task(tasks.name, {name: values[0].tolist() for name, values in columns.items()})
    return f"the agent's guess: {_shown(guess, tasks)}"


def _shown(task: Task, tasks: TaskDistribution) -> str:
    """Return the parameters of a task that no observation shows."""
    hidden = {name: value for name, value in task.items() if name not in tasks.visible}
    return Task(task.family, hidden or dict(task)).describe().replace("'", "")


def _replay(env: TaskVectorEnv, steps: list[_Step]) -> Iterator[tuple[Picture, tuple[str, str]]]:
    """Yield a picture before each step of an episode, how far it is, and the agent's guess."""
    total = 0.0
    for number, step in enumerate(steps):
        progress = f"step {number} of {len(steps)}    return so far {total:.1f}"
        yield _picture(env), (progress, step.guess)
        _, rewards, *_ = env.step(step.action)
        total += float(rewards[0])


def _picture(env: TaskVectorEnv) -> Picture:
    """Return the picture of the only sub-environment.

    Raises:
        ValueError: If it is no picture.
    """
    frames = env.render()
    picture = np.asarray(frames[0] if frames is not None else None)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        got = "None" if picture.dtype == object else f"{picture.dtype} of shape {picture.shape}"
        raise InvalidValueError(
            "render() with render_mode='rgb_array' must return a picture of uint8 of shape "
            f"(height, width, 3), got {got}"
        )
    return picture


def _wrapped(picture: Picture, texts: Sequence[str]) -> list[str]:
    """Return the lines of texts, each wrapped to a picture's width; a tiny one cuts them."""
    width = max(20, picture.shape[1] // _LETTER - 2)
    return [line for text in texts for line in textwrap.wrap(text, width)]


def _captioned(picture: Picture, lines: Sequence[str], rows: int, color: str) -> Picture:
    """Return a picture with lines below it, the first in colour, and room for so many rows."""
    from PIL import Image, ImageDraw

    height, width, _ = picture.shape
    caption = 16 * math.ceil((rows * _LINE + 6) / 16)  # video codecs want multiples of 16
    image = Image.new("RGB", (width, height + caption), "white")
    image.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((8, height + 3 + row * _LINE), line, fill="black" if row else color)
    return np.asarray(image)


def _hold_last(left: list[Picture], right: list[Picture]) -> Iterator[tuple[Picture, Picture]]:
    """Pair two films; the shorter one stops at its last picture."""
    for i in range(max(len(left), len(right))):
        yield left[min(i, len(left) - 1)], right[min(i, len(right) - 1)]


def _under(picture: Picture, belief: Picture) -> Picture:
    return np.concatenate([picture, belief])


def _beside(left: Picture, right: Picture) -> Picture:
    return np.concatenate([left, right], axis=1)


def _import_imageio() -> Any:
    try:
        import imageio.v3
    except ImportError as error:
        raise MissingPackageError(
            "videos need imageio: pip install 'metarl-suite[video]'"
        ) from error
    return imageio.v3


def _write(path: Path, frames: list[Picture], fps: float) -> None:
    imageio = _import_imageio()
    options: dict[str, Any]
    if path.suffix == ".gif":
        options = {"duration": 1000.0 / fps, "loop": 0}
    else:
        options = {"fps": fps, "plugin": "FFMPEG"}
    atomic_write(
        path, imageio.imwrite("<bytes>", np.stack(frames), extension=path.suffix, **options)
    )
