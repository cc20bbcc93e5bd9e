"""The film of an adaptation repeats what the agent did, in pictures."""

import gc
import sys

import numpy as np
import pytest

pytest.importorskip("mujoco.batch")
pytest.importorskip("imageio")

import imageio.v3 as imageio

from metarl import envs
from metarl.envs.mujoco.bodies import HALF_CHEETAH
from metarl.envs.mujoco.terrain import slope
from metarl.experiments.reports import video
from metarl.seeding import stream, stream_seed


class Restless:
    """Acts at random; each adaptation of the same seed acts alike."""

    name = "restless"

    def __init__(self, episodes_per_adaptation=1):
        self.episodes_per_adaptation = episodes_per_adaptation

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        return RestlessAdaptation(num_tasks * self.episodes_per_adaptation, seed)


class RestlessAdaptation:
    def __init__(self, rows, seed):
        self.rows = rows
        self.rng = np.random.default_rng(seed)

    def act(self, observations):
        assert len(observations) == self.rows
        return self.rng.uniform(-1.0, 1.0, (self.rows, 6))

    def observe(self, transition):
        pass


@pytest.fixture
def tasks():
    return slope("half-cheetah", HALF_CHEETAH, 10.0, 15.0, 20.0, horizon=4)


@pytest.fixture(autouse=True)
def _needs_opengl(tasks):
    with_pictures = tasks.make_vec(1, render_mode="rgb_array")
    with_pictures.reset(seed=0)
    try:
        with_pictures.render()
    except RuntimeError as error:
        pytest.skip(str(error))
    finally:
        with_pictures.close()


@pytest.mark.parametrize("parallel", [1, 3])
def test_two_episodes_stand_side_by_side(tasks, tmp_path, parallel):
    path = tmp_path / "new" / "film.gif"
    assert video.record_adaptation(Restless(parallel), tasks, path, split="uphill") == path
    frames = imageio.imread(path)
    assert frames.shape == (4, 288, 640, 3)
    assert np.abs(frames[3, :, :320].astype(int) - frames[3, :, 320:]).max() > 50


def test_the_film_is_of_a_task_in_which_the_return_rises(tasks, tmp_path, monkeypatch):
    drawn = list(tasks.sample("train", 8, stream(0, "video")))
    filmed = []

    def returns_of(agent, tasks, task, *options):
        return [], [0.0, 1.0 if task == drawn[rises] else -1.0]

    def film(agent, tasks, split, task, *options):
        filmed.append(task)
        return [np.zeros((16, 16, 3), np.uint8)], 30.0

    monkeypatch.setattr(video, "_play", returns_of)
    monkeypatch.setattr(video, "_film", film)
    rises = 2
    video.record_adaptation(Restless(), tasks, tmp_path / "film.gif", split="train")
    drawn.append(None)
    rises = 8  # in none of them: the first is filmed
    video.record_adaptation(Restless(), tasks, tmp_path / "film.gif", split="train")
    assert filmed == [drawn[2], None]


def test_the_caption_names_the_episode_and_what_is_hidden(tasks, monkeypatch):
    texts = []

    def captioned(picture, lines, rows, color):
        assert rows >= len(lines)
        texts.append((*lines, color))
        return picture

    monkeypatch.setattr(video, "_captioned", captioned)
    task = tasks.sample("uphill", 1, 0)[0]
    for family, seen in ((tasks, "hidden from"), (tasks.oracle(), "given to")):
        texts.clear()
        video._film(Restless(), family, "uphill", task, 3, seed=5, deterministic=False)
        assert [text[0] for text in texts[::4]] == [
            "first episode (1 of 3)",
            "last episode (3 of 3)",
        ]
        assert texts[0][1] == "step 0 of 4    return so far 0.0"
        assert texts[0][2] == f"{seen} the agent: degrees={task['degrees']:.4g}"
        assert texts[0][3] != texts[4][3]


class Guessing(RestlessAdaptation):
    """Takes the slope for steeper in each step."""

    steps = 0

    def observe(self, transition):
        self.steps += 1

    def predicted_task(self):
        return np.full((1, 1), 0.1 * self.steps)


def test_the_caption_says_what_the_agent_takes_the_task_for(tasks, monkeypatch):
    agent = Restless()
    monkeypatch.setattr(
        agent, "adaptation", lambda num_tasks, **options: Guessing(1, 0), raising=False
    )
    task = tasks.sample("train", 1, 0)[0]
    episodes, _ = video._play(agent, tasks, task, 2, seed=5, deterministic=False)
    guesses = [step.guess for steps in episodes for step in steps]
    steepness = tasks.parameters["degrees"].high
    assert guesses == [
        f"the agent's guess: degrees={0.1 * step * steepness:.4g}" for step in range(1, 9)
    ]


def test_a_long_caption_is_wrapped_and_seen_whole():
    picture = np.zeros((32, 120, 3), np.uint8)
    lines = video._wrapped(picture, ("first", "p=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)"))
    long = video._captioned(picture, lines, 3, "red")
    assert len(lines) == 3
    assert long.shape == (32 + 48, 120, 3)
    assert (long[:, -2:][32:] == 255).all()  # no letter reaches the edge


def test_mp4_is_written_too(tasks, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = video.record_adaptation(Restless(), tasks, tmp_path / "film.mp4")
    assert path.read_bytes()[4:8] == b"ftyp"


def test_the_replay_is_what_the_agent_lived_through(tasks):
    task = tasks.sample("train", 1, 0)[0]
    agent = Restless(3)
    episodes, _ = video._play(agent, tasks, task, 9, seed=5, deterministic=False)
    assert [len(steps) for steps in episodes] == [4, 4, 4]
    batch, single = tasks.make_vec(3), tasks.make_vec(1)
    for env in (batch, single):
        env.set_tasks([task] * env.num_envs)
        env.reset(seed=stream_seed(5, "video", "env"))
    rows = agent.adaptation(1, seed=stream(5, "video", "agent"))
    for steps in episodes:
        for step in steps:
            lived = batch.step(rows.act(np.zeros(3)))
            seen = single.step(step.action)
            np.testing.assert_array_equal(lived[0][0], seen[0][0])
            assert lived[1][0] == seen[1][0]


def test_what_is_not_shown_is_lived_through_as_well(tasks):
    task = tasks.sample("train", 1, 0)[0]
    pictures, _ = video._film(Restless(), tasks, "train", task, 3, seed=5, deterministic=False)
    assert len(pictures) == 4
    episodes, _ = video._play(Restless(), tasks, task, 3, seed=5, deterministic=False)
    env = tasks.make_vec(1, render_mode="rgb_array")
    env.set_tasks([task])
    env.reset(seed=stream_seed(5, "video", "env"))
    for step in [*episodes[0], *episodes[1], *episodes[2][:-1]]:
        env.step(step.action)
    expected = env.render()[0].astype(int)
    env.close()
    # Drawing rounds by what was drawn before; without the second episode some differ by 167.
    assert np.abs(pictures[-1][:240, 320:] - expected).max() <= 3


def test_what_cannot_be_filmed_is_refused(tasks, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"a \.gif or \.mp4 file, got 'film\.avi'"):
        video.record_adaptation(Restless(), tasks, tmp_path / "film.avi")
    with pytest.raises(ValueError, match="bandit-10x5 cannot be filmed"):
        video.record_adaptation(Restless(), envs.make("bandit-10x5"), tmp_path / "film.gif")
    monkeypatch.setitem(sys.modules, "imageio.v3", None)
    with pytest.raises(ImportError, match=r"pip install 'metarl-suite\[video\]'"):
        video.record_adaptation(Restless(), tasks, tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


# The half-made viewer of gymnasium complains once more when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_opengl_the_way_out_is_named(tasks, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    env = tasks.make_vec(1, render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match=r"no OpenGL.*MUJOCO_GL=egl"):
        env.render()
    env.close()
    gc.collect()
