"""Few-shot recognition: pictures, tasks, rewards; and seen examples are enough to know more."""

import pickle
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metarl import Task, TaskSet, check_tasks, envs, evaluate, play
from metarl.agents import RL2
from metarl.agents.classical.random_actions import RandomActions
from metarl.agents.presets import find_preset
from metarl.envs.images.glyphs import characters, glyphs_cats, glyphs_nway, kinds
from metarl.envs.images.pictures import NUM_DRAWS, Pictures, Presenter, Variation
from metarl.experiments.studies.presentations import Recognition, recognize


def make(tasks, num_envs, split="train", seed=0, **options):
    env = tasks.make_vec(num_envs, **options)
    env.set_tasks(tasks.sample(split, num_envs, seed))
    return env


# How a picture is shown.


def shown_slowly(pixels, frame, size, turn, right, down):
    """Show one picture pixel by pixel, from where each frame pixel comes, in plain geometry."""
    side = len(pixels)
    step = side / (size * frame)
    image = np.zeros((frame, frame), dtype=np.uint8)
    for row in range(frame):
        for column in range(frame):
            x = column - (frame - 1) / 2 - right
            y = row - (frame - 1) / 2 - down
            picture_column = side / 2 + step * (x * np.cos(turn) - y * np.sin(turn))
            picture_row = side / 2 + step * (x * np.sin(turn) + y * np.cos(turn))
            place = np.clip(np.floor([picture_row, picture_column]), 0, side - 1).astype(int)
            image[row, column] = pixels[tuple(place)]
    return image


@pytest.mark.parametrize(("size", "turn"), [(1.0, 0.0), (0.7, 0.2), (1.4, -0.2)])
def test_a_picture_is_where_geometry_says(size, turn):
    # A smooth picture: a pixel taken from beside the right one differs little.
    axis = np.arange(42)
    pixels = (2 * axis[:, None] + 3 * axis).astype(np.uint8)
    draws = np.full((1, NUM_DRAWS), 0.5)
    draws[0, [0, 4, 5]] = 1.0, 0.75, 0.25  # the greatest turn; half of the room right, and up
    variation = Variation(size=(size, size), rotation=np.rad2deg(turn))
    image = Presenter(pixels[None, ..., None], 28, variation).show(np.array([0]), draws)
    room = abs(size - 1.0) * 28 / 2
    expected = shown_slowly(pixels, 28, size, turn, 0.5 * room, -0.5 * room)
    assert image.shape == (1, 28, 28, 1)
    difference = np.abs(image[0, ..., 0].astype(int) - expected)
    assert difference.max() <= 5  # a neighbour's value, where rounding takes the neighbour
    assert (difference == 0).mean() > 0.9


def test_values_neither_overflow_nor_turn_negative():
    pixels = np.array([0, 100, 255], dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3))
    variation = Variation(size=(1.0, 1.0), darkest=(50, 50), gain=2, noise=100.0)
    presenter = Presenter(pixels.astype(np.uint8), 8, variation)
    draws = np.random.default_rng(0).random((3, NUM_DRAWS))
    images = presenter.show(np.arange(3), draws)
    assert images.shape == (3, 8, 8, 3)
    assert images[0].max() <= 31  # noise alone
    assert images[1].min() >= 100
    assert images[1].max() <= 131
    assert images[2].min() >= 224


def test_mirror_images():
    pixels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    presenter = Presenter(pixels, 8, Variation(size=(1.0, 1.0), mirrored=True))
    draws = np.full((2, NUM_DRAWS), 0.5)
    draws[:, 6] = 0.2, 0.8
    images = presenter.show(np.zeros(2, dtype=int), draws)
    assert np.array_equal(images[1], pixels[0])
    assert np.array_equal(images[0], pixels[0][:, ::-1])


def test_every_picture_of_a_class_is_shown_equally_often():
    pictures = Pictures.gather(
        np.zeros((6, 2, 2, 1), dtype=np.uint8), {"b": [4, 1, 5], "a": [0]}, {"train": ["a", "b"]}
    )
    assert pictures.names.tolist() == ["a", "b"]
    classes = pictures.find(np.array(["b"] * 3000 + ["a"]))
    rows = pictures.pick(classes, np.random.default_rng(0).random(3001))
    assert rows[-1] == 0
    counts = np.bincount(rows[:-1], minlength=6)
    assert counts[[0, 2, 3]].sum() == 0
    assert counts[[1, 4, 5]] == pytest.approx(1000, abs=120)  # five standard deviations


# The characters.


def test_the_characters():
    pictures = characters()
    train, held_out = (pictures.splits[split] for split in ("train", "held_out"))
    assert len(train) > 2500
    assert len(held_out) > 600
    assert set(train).isdisjoint(held_out)
    assert pictures.counts.min() >= 1
    assert pictures.counts.mean() > 2  # several fonts
    assert (pictures.pixels.reshape(len(pictures.pixels), -1).max(axis=1) > 60).all()  # none blank
    # All forms of a letter are on one side, and of those that look alike there is one.
    sides = {name: name in set(held_out) for name in pictures.names}
    for letters in ("eéèêëēĕ", "oóòôõö", "kķĸ"):
        assert len({sides[letter] for letter in letters if letter in sides}) <= 1
    latin, greek, cyrillic = "A", "\u0391", "\u0410"
    assert len({latin, greek, cyrillic} & set(pictures.names)) == 1


def test_a_class_is_seen_with_different_eyes():
    env = make(glyphs_nway(2), 1)
    env.set_tasks([Task("glyphs-2way", {"classes": ("R", "♞")})])
    env.reset(seed=0)
    images = {0: [], 1: []}
    for _ in range(40):
        observations, _, _, _, info = env.step(np.array([0]))
        images[int(observations["label"][0])].append(info["final_obs"]["image"][0].tobytes())
    for shown in images.values():
        assert len(shown) > 10
        assert len(set(shown)) == len(shown)


def test_no_cat_and_no_other_face_is_in_training():
    pictures = kinds()
    assert pictures.splits["train"].shape[1] == 2
    members = np.split(pictures.members, pictures.starts[1:])
    rows = {name: set(some) for name, some in zip(pictures.names, members)}
    seen = set().union(*(rows[name] for name in pictures.splits["train"].ravel()))
    assert len(rows["CAT"]) == 10  # one drawing for all styles of each of ten faces
    for name in ("CAT", "not CAT", "other FACE"):
        assert seen.isdisjoint(rows[name])
    assert rows["CAT"].isdisjoint(rows["not CAT"] | rows["other FACE"])
    assert rows["not CAT"].isdisjoint(rows["other FACE"])
    for kind, others in pictures.splits["train"][::50]:
        assert others == f"not {kind}"
        assert rows[kind].isdisjoint(rows[others])
        assert rows[kind] | rows[others] == seen


# The tasks.


@pytest.mark.parametrize(
    "name", ["glyphs-5way", pytest.param("glyphs-3way", marks=pytest.mark.slow), "glyphs-cats"]
)
def test_the_family_is_sound(name):
    assert check_tasks(envs.make(name)).passed


def test_the_distribution_of_tasks():
    tasks = glyphs_nway(5)
    columns = {
        split: tasks.sample(split, 3000, seed=0).columns["classes"]
        for split in ("train", "held_out")
    }
    for split, classes in columns.items():
        assert classes.shape == (3000, 5)
        assert set(classes.ravel()) <= set(characters().splits[split])
        assert all(len(set(row)) == 5 for row in classes)
    assert set(columns["train"].ravel()).isdisjoint(columns["held_out"].ravel())
    # A class has another number in another task: which, is drawn.
    letters, counts = np.unique(columns["held_out"], return_counts=True)
    places = np.argwhere(columns["held_out"] == letters[counts.argmax()])[:, 1]
    assert set(places) == set(range(5))
    # Each class equally often at each place: 15,000 draws of 900 classes.
    assert counts.std() < 2 * counts.mean() ** 0.5
    # All orders of the two classes occur where a split is one choice of two.
    pairs = glyphs_cats().sample("held_out", 100, seed=0).columns["classes"]
    assert {tuple(row) for row in pairs} == {("CAT", "not CAT"), ("not CAT", "CAT")}


def test_as_many_classes_as_there_are():
    tasks = glyphs_nway(len(characters().splits["held_out"]))
    classes = tasks.sample("held_out", 2, seed=0).columns["classes"]
    assert set(classes[0]) == set(classes[1]) == set(characters().splits["held_out"])
    assert (classes[0] != classes[1]).any()


def test_labels_come_one_picture_late():
    env = make(glyphs_nway(4), 50)
    observations, _ = env.reset(seed=3)
    assert (observations["label"] == 4).all()
    rng = np.random.default_rng(0)
    for _ in range(10):
        actions = rng.integers(4, size=50)
        image = observations["image"]
        observations, rewards, terminated, truncated, info = env.step(actions)
        true = info["final_obs"]["label"]
        assert np.array_equal(rewards, actions == true)
        assert np.array_equal(observations["label"], true)
        assert np.array_equal(info["final_obs"]["image"], image)
        assert (image != observations["image"]).any(axis=(1, 2, 3)).all()
        assert terminated.all()
        assert not truncated.any()
    # A new trial begins without a label.
    observations, _ = env.reset()
    assert (observations["label"] == 4).all()


def test_the_true_class_is_that_of_the_picture():
    # Of a heart and a stroke, the image itself says which is which.
    env = make(glyphs_nway(2), 8)
    orders = ("♥", "/"), ("/", "♥")
    env.set_tasks([Task("glyphs-2way", {"classes": orders[i % 2]}) for i in range(8)])
    observations, _ = env.reset(seed=0)
    first = np.arange(8) % 2
    for _ in range(10):
        answers = np.where(dense(observations["image"]), first, 1 - first)
        observations, rewards, *_ = env.step(answers)
        assert rewards.tolist() == [1.0] * 8


def test_classes_are_drawn_alike_and_independently():
    env = make(glyphs_nway(5), 400)
    env.reset(seed=0)
    labels = np.stack([env.step(np.zeros(400, dtype=int))[0]["label"] for _ in range(50)])
    counts = np.bincount(labels.ravel(), minlength=5)
    assert counts == pytest.approx(4000, abs=300)
    assert (labels[1:] == labels[:-1]).mean() == pytest.approx(0.2, abs=0.02)


def nearest_neighbour(tasks, split, num_tasks, num_pictures):
    """Name each picture as the seen one that it is most like, in plain loops. Right or wrong."""
    env = make(tasks, num_tasks, split)
    observations, _ = env.reset(seed=0)
    memory = [[] for _ in range(num_tasks)]
    right, labels = [], []
    for _ in range(num_pictures):
        flat = observations["image"].reshape(num_tasks, -1).astype(float)
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        answers = [
            max(seen, key=lambda pair: pair[0] @ image)[1] if seen else 0
            for seen, image in zip(memory, flat)
        ]
        observations, rewards, *_ = env.step(np.array(answers))
        right.append(rewards > 0.0)
        labels.append(observations["label"])
        for seen, image, label in zip(memory, flat, observations["label"]):
            seen.append((image, int(label)))
    return Recognition(np.stack(labels, axis=1), np.stack(right, axis=1), env.single_action_space.n)


def test_seen_examples_are_enough_to_know_more():
    result = nearest_neighbour(glyphs_nway(5), "held_out", 100, 50)
    accuracy = result.by_presentation().mean(axis=0)
    # It never guesses a class that it has not seen; whoever learns nothing scores 0.2 throughout.
    assert accuracy[0] < 0.1
    assert accuracy[1] > 0.45
    assert accuracy[4] > 0.65
    assert accuracy[9] > 0.75


@pytest.mark.parametrize("split", ["held_out", "faces"])
def test_seen_cats_tell_cats(split):
    result = nearest_neighbour(glyphs_cats(), split, 150, 20)
    # Chance is 0.5. Most later cats are other cats than those seen.
    assert result.right[:, 10:].mean() > {"held_out": 0.62, "faces": 0.55}[split]


# The environment as such.


def test_a_batch_equals_single_environments():
    tasks = glyphs_nway(3)
    sampled = tasks.sample("train", 5, seed=0)
    batch = make(tasks, 5)
    start, _ = batch.reset(seed=7)
    steps = [batch.step(np.arange(5) % 3) for _ in range(4)]
    for lane in range(5):
        single = tasks.make_vec(1)
        single.set_tasks(sampled[lane : lane + 1])
        observations, _ = single.reset(seed=7 + lane)
        assert np.array_equal(observations["image"][0], start["image"][lane])
        for expected in steps:
            got = single.step(np.array([lane % 3]))
            for name in ("image", "label"):
                assert np.array_equal(got[0][name][0], expected[0][name][lane])
            assert got[1][0] == expected[1][lane]


def test_a_task_is_plain_data():
    tasks = glyphs_nway(5)
    sampled = tasks.sample("held_out", 3, seed=0)
    again = pickle.loads(pickle.dumps(tasks)).sample("held_out", 3, seed=0)
    assert again == sampled
    assert all(isinstance(name, str) for name in sampled[0]["classes"])
    env = tasks.make_vec(1)
    for classes, message in (
        (("A", "B", "C", "D", "D"), "not allowed by Classes"),
        (("A", "B", "C", "D", "cat"), "not allowed by Classes"),
        (("A", "B"), r"must have shape \(5,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            env.set_tasks([Task("glyphs-5way", {"classes": classes})])


def test_names():
    assert envs.make("glyphs-7way").episodes_per_trial == 70
    assert envs.make("glyphs-7way").make_vec(1).single_action_space.n == 7
    with pytest.raises(ValueError, match="ways must be at least 2, got 1"):
        envs.make("glyphs-1way")
    with pytest.raises(ValueError, match="unknown family 'glyphs-5-way'; did you mean"):
        envs.make("glyphs-5-way")


def test_pictures_of_a_trial():
    env = gymnasium.make("metarl/Glyphs-v0", ways=3, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    first = env.render()
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    batch = make(glyphs_nway(3), 1, render_mode="rgb_array")
    batch.reset(seed=0)
    colors = {0.0: (213, 94, 0), 1.0: (0, 158, 115)}
    for _ in range(6):
        _, rewards, *_ = batch.step(np.array([1]))
        (picture,) = batch.render()
        assert (picture == colors[rewards[0]]).all(axis=2).any()
    batch.reset()
    assert not (batch.render()[0] == colors[1.0]).all(axis=2).any()  # a new trial, nothing seen
    assert make(glyphs_nway(3), 1).render() is None


# The measure.


def dense(images):
    """Tell hearts from strokes."""
    return (images > 128).mean(axis=(1, 2, 3)) > 0.2


class Slow:
    """Tells hearts (class 0) from strokes (class 1), from the third picture of a class on."""

    name = "slow"
    episodes_per_adaptation = 1

    def adaptation(self, num_tasks, *, seed=0, deterministic=False):
        return SlowAdaptation(num_tasks)


class SlowAdaptation:
    def __init__(self, num_tasks):
        self._counts = np.zeros((num_tasks, 2), dtype=int)
        self._lanes = np.arange(num_tasks)

    def act(self, observations):
        true = 1 - dense(observations["image"])
        self._counts[self._lanes, true] += 1
        return np.where(self._counts[self._lanes, true] > 2, true, 1 - true)

    def observe(self, transition):
        pass


def test_an_agent_of_known_accuracy():
    every = TaskSet({"classes": [["♥", "/"]]})
    tasks = replace(glyphs_nway(2), splits={"train": every, "held_out": every})
    result = recognize(Slow(), tasks, num_tasks=30, num_pictures=20)
    assert result.by_presentation().tolist() == [[0.0, 0.0] + [1.0] * 8] * 30
    report = evaluate(Slow(), tasks, num_tasks=30, num_episodes=20, seed=1)
    assert np.array_equal(report.returns, result.right)
    with pytest.raises(ValueError, match="no family of few-shot recognition"):
        recognize(Slow(), envs.make("bandit-10x5"))
    with pytest.raises(ValueError, match="unknown split of 'glyphs-2way': 'test'"):
        recognize(Slow(), tasks, split="test")


def test_many_tasks_are_played_in_chunks(monkeypatch):
    tasks = glyphs_nway(2)
    whole = recognize(RandomActions(tasks), tasks, num_tasks=20, num_pictures=6)
    monkeypatch.setattr("metarl.experiments.studies.presentations.play", partial(play, max_envs=7))
    parts = recognize(RandomActions(tasks), tasks, num_tasks=20, num_pictures=6)
    assert np.array_equal(parts.labels, whole.labels)


def test_accuracy_by_presentation():
    labels = np.array([[0, 0, 1, 0, 1, 1], [1, 1, 1, 1, 0, 1]])
    right = np.array([[0, 1, 1, 1, 0, 1], [1, 0, 0, 1, 0, 1]], dtype=bool)
    result = Recognition(labels, right, 2)
    assert result.by_presentation().tolist() == [[0.5, 0.5, 1.0], [0.5, 0.0, 0.0]]
    assert "guessing: 0.500" in str(result)


@pytest.mark.slow
def test_an_agent_learns_to_recognise_what_it_has_seen_once():
    tasks = glyphs_nway(2)
    agent = RL2(tasks, **find_preset("rl2", tasks.name).hyperparameters, seed=0).learn(25_000)
    accuracy = recognize(agent, tasks, num_tasks=200).by_presentation().mean(axis=0)
    # Whoever remembers nothing guesses: 0.5 throughout.
    assert accuracy[1] > 0.75
    assert accuracy[4] > 0.85
