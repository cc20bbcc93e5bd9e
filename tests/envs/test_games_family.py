"""Board games as a family: splits, refusals, what the oracle is given, pictures."""

import gymnasium
import numpy as np
import pytest
from board_games import STEP, start, walk

from metarl import Task, Tasks, check_tasks, envs
from metarl.envs.games.family import GameVectorEnv, games


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("games-5x5", marks=pytest.mark.slow),
        "games-7x7",
        pytest.param("games-5x5-compositions", marks=pytest.mark.slow),
    ],
)
def test_the_checks_pass(name):
    assert check_tasks(envs.make(name)).passed


def test_training_never_meets_what_is_held_out():
    tasks = envs.make("games-7x7")
    games_of = {
        split: {
            repr(Task("", {n: c[i] for n, c in distribution.columns.items()}))
            for i in range(len(distribution))
        }
        for split, distribution in tasks.splits.items()
    }
    assert {split: len(games) for split, games in games_of.items()} == {
        "train": 691,
        "held_out": 173,
        "unseen_controls": 9504,
        "unseen_objects": 756,
        "validation": 691,
    }
    assert games_of["validation"] == games_of["train"]
    assert len(set.union(*games_of.values())) == 691 + 173 + 9504 + 756
    for split in ("train", "held_out"):
        columns = tasks.sampler(split).columns
        assert set(columns["motion"]) == {"step", "slide"}
        assert set(columns["objects"].ravel()) == {"nothing", "treasure", "trap", "key"}
        assert len(np.unique(columns["controls"], axis=0)) == 3
    unseen = tasks.sampler("unseen_controls").columns
    usual = (unseen["controls"] == (0, 1, 2, 3)).all(axis=1)
    assert set(unseen["motion"][usual]) == {"turn"}
    assert (tasks.sampler("unseen_objects").columns["objects"] == "door").any(axis=1).all()


def without_symbols(tasks, split):
    """Return the games of a split, whatever the symbol of each object."""
    columns = tasks.sampler(split).columns
    rows = zip(*(columns[name].tolist() for name in columns))
    return {tuple(map(repr, (sorted(objects), *rules))) for objects, *rules in rows}


def test_compositions_that_training_never_has():
    # Held-out games of the plain family are training games whose symbols are exchanged.
    plain, tasks = envs.make("games-7x7"), envs.make("games-7x7-compositions")
    assert without_symbols(plain, "held_out") <= without_symbols(plain, "train")
    train = without_symbols(tasks, "train")
    seen = without_symbols(tasks, "held_out")
    assert len(seen & train) > 0.95 * len(seen)
    for split in ("new_combinations", "new_rules"):
        assert train.isdisjoint(without_symbols(tasks, split))
        assert tasks.overlap(split) is None

    def of(split):
        columns = tasks.sampler(split).columns
        roles = [(columns["objects"] == role).any(axis=1) for role in ("trap", "key")]
        return roles[0] & roles[1], (columns["motion"] == "slide") & (columns["border"] == "wrap")

    for split, expected in {
        "train": (False, False),
        "held_out": (False, False),
        "new_combinations": (True, False),
        "new_rules": (False, True),
    }.items():
        for found, each in zip(of(split), expected):
            assert (found == each).all(), split
    # Each role and each rule by itself is known.
    columns = tasks.sampler("train").columns
    assert set(columns["objects"].ravel()) == {"nothing", "treasure", "trap", "key"}
    assert (set(columns["motion"]), set(columns["border"])) == (
        {"step", "slide"},
        {"wall", "wrap", "trap"},
    )
    assert [tasks.num_tasks(split) for split in tasks.splits][:4] == [432, 108, 180, 108]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"objects": ("trap", "nothing", "key")}, r"trap.* not allowed.*exactly one treasure"),
        ({"objects": ("key", "treasure", "key")}, "at most one key"),
        ({"objects": ("treasure", "nothing", "hole")}, "hole.* not allowed"),
        ({"objects": ("treasure", "nothing")}, r"must have shape \(3,\), got \(2,\)"),
        ({"controls": (0, 1, 2, 2)}, "each once"),
        ({"motion": "fly"}, "fly.* not allowed"),
    ],
)
def test_contradictory_rules_are_refused(wrong, sentence):
    env = envs.make("games-5x5").make_vec(1)
    with pytest.raises(ValueError, match=sentence):
        env.set_tasks([Task("games-5x5", {**STEP, **wrong})])


def test_boards_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="num_kinds must be at least 2, got 1"):
        games(5, num_kinds=1, num_each=1, horizon=5)
    with pytest.raises(ValueError, match="num_kinds must be at most 4, got 5"):
        games(5, num_kinds=5, num_each=1, horizon=5)
    with pytest.raises(ValueError, match="size must be at least 3, got 2"):
        GameVectorEnv(1, size=2)
    with pytest.raises(ValueError, match="12 objects must fill less than half of a board of 5"):
        GameVectorEnv(1, size=5, num_each=4)


def test_what_the_oracle_is_given():
    tasks = envs.make("games-5x5")
    features = tasks.encode(Tasks.stack([Task("games-5x5", STEP)]))
    # Objects and controls one-hot, place by place; then motion, border, and one sign.
    assert features.shape == (1, 3 * 5 + 4 * 4 + 3 + 3 + 1)
    assert set(np.unique(features)) == {-1.0, 0.0, 1.0}
    every = np.concatenate(
        [tasks.encode(Tasks("", distribution.columns)) for distribution in tasks.splits.values()]
    )
    assert len(np.unique(every, axis=0)) == 691 + 173 + 9504 + 756


def test_gymnasium_takes_it():
    for size in (5, 7):
        env = gymnasium.make(f"metarl/Games{size}x{size}-v0", render_mode="rgb_array")
        env.reset(seed=0)
        before = env.render()
        env.step(2)
        assert before.shape == env.render().shape
        assert min(before.shape[:2]) >= 240
        assert not any(side % 16 for side in before.shape[:2])  # what video codecs want
        assert (before != env.render()).any()
        env.close()
    batch = gymnasium.make_vec("metarl/Games7x7-v0", num_envs=3)
    assert batch.reset(seed=0)[0].shape == (3, 11)
    assert batch.render() is None


def test_the_picture_shows_the_pieces():
    env = start({}, [12, 0, 4, 20], render_mode="rgb_array")
    [picture] = env.render()

    def color(row, column):
        return tuple(picture[8 + 48 * row + 24, 8 + 48 * column + 24].tolist())

    shown = [color(*divmod(place, 5)) for place in (0, 4, 20, 24)]
    assert len(set(shown)) == 4
    assert shown[3] == (247, 247, 245)  # nothing there
    env._places[0, 1] = 24
    assert tuple(env.render()[0][8 + 216, 8 + 216].tolist()) == shown[0]


def test_the_oracle_s_board_shows_its_own_rules():
    env = envs.make("games-5x5", oracle=True).make_vec(1, render_mode="ansi")
    env.set_tasks([Task("games-5x5", {**STEP, "objects": ("trap", "nothing", "treasure")})])
    env.reset(seed=0)
    assert "c treasure +1" in env.render()[0]


def test_the_text_shows_board_and_rules():
    env = start(
        {"objects": ("treasure", "key", "trap"), "motion": "turn", "border": "trap"},
        [12, 0, 4, 20],
        render_mode="ansi",
    )
    walk(env, 1)
    assert env.render()[0].splitlines() == [
        "a . . . b",
        ". . . . .",
        ". . . > .",
        ". . . . .",
        "c . . . .",
        "",
        "last reward +0, without key",
        "a treasure +1, with the key",
        "b the key to the treasure",
        "c trap -0.5",
        "actions: turn and go ahead, right, back, left",
        "border: a trap -0.25",
        "objects: at rest",
    ]
