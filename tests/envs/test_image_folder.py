"""Pictures of your own: a folder is read, its classes are divided, and what is wrong is said."""

import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageDraw
from toys import Fixed, Toy

from metarl import check_tasks, envs, evaluate
from metarl.envs.images.image_folders import _square, image_folder
from metarl.errors import InvalidValueError

COLORS = {"red": (200, 30, 30), "blue": (30, 60, 200), "green": (20, 150, 40), "grey": (90, 90, 90)}
SHAPES = ("disc", "square", "triangle")


def draw(shape, color, rng):
    """Draw a shape somewhere in a picture of some size, on a light ground with noise."""
    width, height = rng.integers(50, 90, size=2).tolist()
    ground = np.asarray(rng.integers(200, 256, (height, width, 3)), dtype=np.uint8)
    image = Image.fromarray(ground)
    pen = ImageDraw.Draw(image)
    radius = int(min(width, height) * rng.uniform(0.25, 0.4))
    x, y = width // 2, height // 2
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "disc":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    else:
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], color)
    return image


def fill(folder, classes, num_pictures=6):
    rng = np.random.default_rng(0)
    for name in classes:
        shape, color = name.split("-")
        (folder / name).mkdir(parents=True)
        for number in range(num_pictures):
            image = draw(shape, COLORS[color], rng)
            image.save(folder / name / f"{number}.{'jpg' if number % 2 else 'png'}")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder of twelve classes: three shapes in four colours."""
    names = [f"{shape}-{color}" for shape in SHAPES for color in COLORS]
    return fill(tmp_path_factory.mktemp("photos"), names)


def test_a_folder_is_a_family(shapes):
    tasks = envs.make(f"image-folder:{shapes}")
    assert tasks.name == f"image-folder:{shapes}"
    assert check_tasks(tasks).passed
    classes = {
        split: set(tasks.sample(split, 300, 0).columns["classes"].ravel()) for split in tasks.splits
    }
    assert len(classes["held_out"]) == 3
    assert len(classes["train"]) == 9
    assert classes["train"].isdisjoint(classes["held_out"])
    again = pickle.loads(pickle.dumps(tasks))
    assert again.sample("held_out", 9, 0) == tasks.sample("held_out", 9, 0)
    space = tasks.make_vec(1).single_observation_space["image"]
    assert space.shape == (32, 32, 3)
    assert space.dtype == np.uint8


def test_classes_held_out_by_name(shapes):
    held_out = ("disc-red", "square-red")
    tasks = image_folder(shapes, held_out=held_out, image_size=20, color=False)
    assert set(tasks.sample("held_out", 20, 0).columns["classes"].ravel()) == set(held_out)
    train = set(tasks.sample("train", 300, 0).columns["classes"].ravel())
    assert len(train) == 10
    assert train.isdisjoint(held_out)
    assert tasks.make_vec(1).single_observation_space["image"].shape == (20, 20, 1)


def test_the_pictures_are_those_of_the_folder(shapes):
    env = image_folder(shapes, ways=3, held_out=("disc-red", "disc-blue", "disc-green")).make_vec(
        60
    )
    tasks = image_folder(shapes, ways=3, held_out=("disc-red", "disc-blue", "disc-green"))
    sampled = tasks.sample("held_out", 60, 0)
    env.set_tasks(sampled)
    observations, _ = env.reset(seed=0)
    # The colour in the middle says which class it is.
    middles = observations["image"][:, 12:20, 12:20].mean(axis=(1, 2))
    names = ["disc-red", "disc-green", "disc-blue"]
    named = [names[channel] for channel in middles.argmax(axis=1)]
    answers = [list(task["classes"]).index(name) for task, name in zip(sampled, named)]
    _, rewards, *_ = env.step(np.array(answers))
    assert rewards.all()


def test_reports_say_that_tasks_share_classes(shapes):
    tasks = image_folder(shapes, ways=2)  # 3 of 12 classes are held out: 6 choices and orders
    report = evaluate(Toy(Fixed), tasks, num_tasks=12, num_episodes=1)
    assert report.num_distinct <= 6
    assert (
        "tasks are choices and orders of 3 classes, and those that share classes count as "
        "different tasks: intervals do not cover other classes"
    ) in report.all_notes()
    assert envs.make("glyphs-5way").sampler("held_out").note is None  # of 908 classes


def test_seen_pictures_are_enough_to_know_more(shapes):
    tasks = image_folder(shapes, ways=2, held_out=("disc-red", "square-grey", "triangle-blue"))
    env = tasks.make_vec(60)
    env.set_tasks(tasks.sample("held_out", 60, 0))
    observations, _ = env.reset(seed=0)
    memory = [[] for _ in range(60)]
    rewards = np.zeros(60)
    for _ in range(8):
        flat = observations["image"].reshape(60, -1).astype(float)
        answers = [
            min(seen, key=lambda pair: np.abs(pair[0] - image).sum())[1] if seen else 0
            for seen, image in zip(memory, flat)
        ]
        observations, rewards, *_ = env.step(np.array(answers))
        for seen, image, label in zip(memory, flat, observations["label"]):
            seen.append((image, int(label)))
    assert rewards.mean() > 0.85  # after seven labelled pictures; guessing scores 0.5


def test_pictures_in_folders_below_and_other_files(shapes, tmp_path):
    folder = fill(tmp_path / "photos", ["disc-red", "disc-blue", "square-red", "square-blue"], 4)
    for name in ("disc-red", "disc-blue", "square-red", "square-blue"):
        below = folder / name / "more"
        below.mkdir()
        draw("disc", (0, 0, 0), np.random.default_rng(0)).save(below / "last.PNG")
        (folder / name / "notes.txt").write_text("no picture")
    (folder / ".cache").mkdir()
    assert image_folder(folder).sample("train", 5, 0).columns["classes"].shape == (5, 2)


def cut(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (lambda folder: None, {}, "there is no folder '.*photos'"),
        (lambda folder: folder.mkdir(), {}, "'.*photos' contains nothing; expected one subfolder"),
        (
            lambda folder: (folder.mkdir(), (folder / "a.png").write_bytes(b"")),
            {},
            "'.*photos' contains 1 files; expected one subfolder of pictures for each class",
        ),
        (
            lambda folder: fill(folder, ["disc-red", "disc-blue", "disc-green"]),
            {},
            "tasks of 2 classes need 2 training classes and 2 held-out ones, but .* has only 3: "
            "disc-blue, disc-green, disc-red; add classes or lower ways",
        ),
        (
            lambda folder: fill(folder, ["disc-red", "disc-blue", "disc-green"]),
            {"held_out": ("disc-red",)},
            "need at least 2 in every split, but held_out has 1 of .*: disc-red; change held_out",
        ),
        (
            lambda folder: fill(folder, ["disc-red", "disc-blue", "disc-green"]),
            {"held_out": ("disc-red", "disc-blue")},
            "need at least 2 in every split, but train has 1 of .*: disc-green",
        ),
        (
            lambda folder: fill(folder, ["disc-red", "disc-blue", "disc-green"]),
            {"held_out": ("disk-red", "disc-blue")},
            "unknown class of '.*photos': 'disk-red'; did you mean 'disc-red'?",
        ),
        (
            lambda folder: fill(folder, [f"disc-{color}" for color in COLORS], 4),
            {},
            "the class 'disc-.*' has 4 pictures in '.*'; expected at least 5",
        ),
        (
            lambda folder: cut(
                fill(folder, [f"disc-{color}" for color in COLORS]) / "disc-red/1.jpg"
            ),
            {},
            "the picture '.*disc-red/1.jpg' cannot be read .*; remove it or save it again",
        ),
        (lambda folder: None, {"ways": 1}, "ways must be at least 2, got 1"),
        (lambda folder: None, {"image_size": 4}, "image_size must be at least 8, got 4"),
    ],
)
def test_what_is_wrong_is_said_before_training(tmp_path, prepare, options, message):
    folder = tmp_path / "photos"
    prepare(folder)
    with pytest.raises(ValueError, match=message):
        image_folder(folder, **options)


def put(folder, name, content):
    """A folder of classes, with something of a name in one of them."""
    path = fill(folder, [f"disc-{color}" for color in COLORS]) / "disc-red" / name
    content(path)
    return path


def write_eps(path):
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )


def write_wide_png(path):
    """A PNG that says of itself that it is large, and has nothing in it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("9.png", write_eps, "cannot identify image file"),
        ("9.png", write_wide_png, "it has 13000 x 13000 pixels, more than 50,000,000"),
        ("9.png", os.mkfifo, "it is not a regular file"),
        ("9.jpg", Path.mkdir, "it is not a regular file"),
    ],
)
def test_a_strangers_files_start_nothing_and_fit_into_memory(
    name, content, message, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: started.append(args))
    path = put(tmp_path / "photos", name, content)
    expected = (
        f"the picture '{path}' cannot be read \\(.*{message}.*\\); remove it or save it again"
    )
    with pytest.raises(InvalidValueError, match=expected):
        image_folder(tmp_path / "photos")
    assert started == []


def test_a_large_photograph_is_decoded_small(tmp_path):
    def write(path):
        Image.new("RGB", (8000, 7000), (200, 30, 30)).save(path, quality=50)

    path = put(tmp_path / "photos", "9.jpg", write)
    red = _square(path, 16, color=True)
    assert red.shape == (16, 16, 3)
    assert np.abs(red.astype(int) - (200, 30, 30)).max() < 5


def test_a_name_without_a_folder():
    with pytest.raises(ValueError, match="'image-folder:' lacks the folder; for example"):
        envs.make("image-folder:")
    with pytest.raises(ValueError, match="there is no folder 'no/such'"):
        envs.make("image-folder:no/such")


def test_options_of_a_folder_whatever_it_is_called(tmp_path):
    folder = fill(
        tmp_path / "cats-4tasks", ["disc-red", "disc-blue", "square-red", "square-blue"], 5
    )
    plain = envs.make(f"image-folder:{folder}")
    assert plain.name == f"image-folder:{folder}"
    assert plain.num_tasks("train") == 2  # all of them
    view = envs.make(f"image-folder:{folder}", num_train_tasks=1, oracle=True)
    assert (view.name, view.num_tasks("train")) == (plain.name, 1)
