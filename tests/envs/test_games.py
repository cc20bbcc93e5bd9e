"""Board games: their rules against a slow player of one board, and how well one can play."""

import copy
from collections import deque

import numpy as np
import pytest
from board_games import start, walk

from metarl import Tasks, envs

MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]
RANDOM = np.random.default_rng(0)


class Board:
    """One board in plain Python: an independent reading of the rules."""

    def __init__(self, game, size, places, heading, key=False):
        self.game, self.size = game, size
        self.player, *self.objects = [divmod(int(place), size) for place in places]
        self.heading, self.key = int(heading), key

    def role(self, number):
        return self.game["objects"][number % len(self.game["objects"])]

    def inside(self, square):
        return all(0 <= v < self.size for v in square)

    def target(self, action):
        """Return the new heading, the square that a move leads to, whether it met the border."""
        heading = self.game["controls"][action]
        if self.game["motion"] == "turn":
            heading = (self.heading + heading) % 4
        (down, right), (row, column) = MOVES[heading], self.player
        square = (row + down, column + right)
        if not self.inside(square):
            if self.game["border"] != "wrap":
                return heading, self.player, True
            square = (square[0] % self.size, square[1] % self.size)
        axis = 0 if down else 1
        levels = [place[axis] for place in self.objects]
        while self.game["motion"] == "slide" and square[axis] not in levels:
            further = (square[0] + down, square[1] + right)
            if not self.inside(further):
                break
            square = further
        return heading, square, False

    def step(self, action, draws):
        """Move by the rules; return the reward."""
        self.heading, self.player, bumped = self.target(action)
        reward = -0.25 if bumped and self.game["border"] == "trap" else 0.0
        if self.player in self.objects:
            touched = self.objects.index(self.player)
            role = self.role(touched)
            needs_key = "key" in self.game["objects"]
            if role == "treasure" and (self.key or not needs_key):
                reward += 1.0
            if role == "trap":
                reward -= 0.5
            if role == "key":
                self.key = True
            every = [(r, c) for r in range(self.size) for c in range(self.size)]
            free = [square for square in every if square not in self.objects]
            landing = free[int(draws[0] * len(free))]
            if role == "door":
                self.player = landing
            else:
                self.objects[touched] = landing
        if self.game["restless"]:
            choice = int(4 * len(self.objects) * draws[1])
            (row, column), (down, right) = self.objects[choice // 4], MOVES[choice % 4]
            aim = (row + down, column + right)
            if self.inside(aim) and aim != self.player and aim not in self.objects:
                self.objects[choice // 4] = aim
        return reward

    def outcome(self, game, action, draws):
        """Return what the player would see of a move by the rules of a game."""
        other = copy.copy(self)
        other.game, other.objects = game, list(self.objects)
        reward = other.step(action, draws)
        return other.player, other.heading, other.key, reward

    def observation(self):
        (row, column), far = self.player, self.size - 1
        seen = [2 * column / far - 1, 2 * row / far - 1, *MOVES[self.heading][::-1]]
        num_kinds = len(self.game["objects"])
        for kind in range(num_kinds):
            alike = [(r - row, c - column) for r, c in self.objects[kind::num_kinds]]
            # Of two that are as near, the upper one, then the left one.
            nearest = min(alike, key=lambda away: (abs(away[0]) + abs(away[1]), away))
            y, x = (np.sign(d) * np.sqrt(abs(d) / far) for d in nearest)
            seen += [x, y]
        return [*seen, float(self.key)]


def boards_of(env):
    state = zip(env.tasks, env._places, env._heading, env._has_key)
    return [Board(game, env.size, *rest) for game, *rest in state]


class Draws:
    """Remembers what the environment draws."""

    def __init__(self, random):
        self.random = random

    def uniform(self, ids, size):
        self.last = self.random.uniform(ids, size)
        return self.last


def returns_of(env, choose):
    """Play an episode on all boards, action by action as ``choose`` says."""
    env.reset(seed=0)
    total = np.zeros(env.num_envs)
    for _ in range(env.horizon):
        total += env.step(np.array([choose(board) for board in boards_of(env)]))[1]
    return total


@pytest.mark.parametrize("split", ["train", "unseen_controls", "unseen_objects"])
@pytest.mark.parametrize("name", ["games-5x5", "games-7x7"])
def test_the_rules_against_a_slow_reading_of_them(name, split):
    tasks = envs.make(name)
    env = tasks.make_vec(150)
    env.set_tasks(tasks.sample(split, 150, 3))
    env.reset(seed=4)
    env.random = Draws(env.random)
    boards = boards_of(env)
    actions = np.random.default_rng(5).integers(4, size=(env.horizon - 1, 150))
    seen = np.zeros(3)
    for row in actions:
        observations, rewards, *_ = env.step(row)
        slow = [b.step(a, draws) for b, a, draws in zip(boards, row, env.random.last)]
        assert rewards.tolist() == slow
        assert observations == pytest.approx(np.array([b.observation() for b in boards]), abs=1e-6)
        seen += [(rewards > 0).sum(), (rewards < 0).sum(), observations[:, -1].sum()]
    assert seen.min() > 10  # treasures, traps and keys were met


def nearest_treasure(board):
    """Search for the action that leads to the treasure soonest, or to its key, off the traps."""
    roles = board.game["objects"]
    wanted = "key" if "key" in roles and not board.key else "treasure"
    start = (board.player, board.heading)
    first, queue = {start: None}, deque([start])
    while queue:
        state = queue.popleft()
        for action in range(4):
            board.player, board.heading = state
            heading, square, bumped = board.target(action)
            role = board.role(board.objects.index(square)) if square in board.objects else None
            follows, begun = (square, heading), first[state]
            if follows in first or role == "trap" or bumped:
                continue
            first[follows] = action if begun is None else begun
            if role == wanted:
                board.player, board.heading = start
                return first[follows]
            if role is None:  # where the other objects go, nobody knows
                queue.append(follows)
    board.player, board.heading = start
    return int(RANDOM.integers(4))


def test_who_knows_the_rules_plays_well():
    # Random actions get about 0: they meet treasures, traps, and borders that are traps.
    tasks = envs.make("games-5x5")
    env = tasks.make_vec(200)
    for split, least in (("train", 2.7), ("unseen_controls", 2.3)):
        env.set_tasks(tasks.sample(split, 200, 1))
        assert returns_of(env, lambda board: RANDOM.integers(4)).mean() < 0.5
        assert returns_of(env, nearest_treasure).mean() > least


@pytest.mark.slow
def test_who_finds_out_the_rules_plays_twice_as_well():
    # Plays by rules that fit all it has seen, until they are refuted. Who forgets stays at about 1.
    tasks = envs.make("games-5x5")
    num_tasks, num_episodes = 30, 3
    env = tasks.make_vec(num_tasks)
    env.set_tasks(tasks.sample("held_out", num_tasks, 0))
    env.reset(seed=0)
    env.random = Draws(env.random)
    every = [
        Tasks("", tasks.sampler(split).columns)[i]
        for split in ("train", "held_out")
        for i in range(tasks.num_tasks(split))
    ]
    RANDOM.shuffle(every)
    fitting = [every] * num_tasks
    returns = np.zeros((num_episodes, num_tasks))
    for step in range(num_episodes * env.horizon):
        boards = boards_of(env)
        for board, games_left in zip(boards, fitting):
            board.game = games_left[0]
        actions = np.array([nearest_treasure(board) for board in boards])
        _, rewards, _, truncated, _ = env.step(actions)
        returns[step // env.horizon] += rewards
        if truncated.any():
            continue
        for lane, (after, board) in enumerate(zip(boards_of(env), boards)):
            seen = (after.player, after.heading, after.key, rewards[lane])
            doing = (actions[lane], env.random.last[lane])
            fitting[lane] = [g for g in fitting[lane] if board.outcome(g, *doing) == seen]
    first, *_, last = returns.mean(axis=1)
    assert last > 2.0 * first
    assert last > 2.4  # given the rules, the same player gets 3.0


def test_a_treasure_is_worth_nothing_without_the_key_and_the_key_stays():
    env = start({"objects": ("treasure", "key", "trap")}, [10, 11, 0, 12])
    up, right = 0, 1
    assert walk(env, right) == [0.0]
    env._places[0] = [10, 0, 11, 12]
    assert walk(env, right, right) == [0.0, -0.5]
    for _ in range(2):
        env._places[0] = [10, 5, 0, 1]
        assert walk(env, up) == [1.0]
    assert env._has_key[0]
    env.reset(seed=1)
    assert not env._has_key[0]


def test_a_slide_ends_level_with_an_object_or_at_the_border():
    right = 1
    env = start({"motion": "slide"}, [10, 3, 19, 24])
    assert walk(env, right) == [0.0]
    assert env._places[0, 0] == 13  # below the first object
    assert walk(env, right, right) == [0.0, 0.0]
    assert env._places[0, 0] == 14
    env = start({"motion": "slide", "border": "wrap"}, [14, 3, 19, 24])
    walk(env, right)
    assert env._places[0, 0] == 13  # from column 4 on to column 0, and on


def test_a_door_leads_to_a_free_square_and_stays():
    arrivals = []
    for seed in range(300):
        env = start({"objects": ("treasure", "door", "trap")}, [10, 0, 11, 12])
        env.random = type(env.random)(seed, 1)
        walk(env, 1)
        assert env._places[0, 1:].tolist() == [0, 11, 12]
        arrivals.append(env._places[0, 0])
    assert set(arrivals) == set(range(25)) - {0, 11, 12}


def test_starts_are_uniform_and_no_two_stand_on_one_square():
    env = envs.make("games-5x5").make_vec(20_000)
    env.reset(seed=0)
    assert (np.diff(np.sort(env._places, axis=1), axis=1) > 0).all()
    for piece in range(4):
        counts = np.bincount(env._places[:, piece], minlength=25)
        assert np.abs(counts - 800).max() < 5 * np.sqrt(800)
    assert np.abs(np.bincount(env._heading, minlength=4) - 5000).max() < 5 * np.sqrt(5000)
