"""Same seed, same bits: twice, saved and loaded, killed and resumed."""

import itertools
import json
import random
import shutil
import subprocess
import sys

import killed_runs
import numpy as np
import pytest
import torch
from run_logs import rows_of, scalars
from stable_baselines3.common.logger import configure
from toys import risk, strolls

from metarl import Report, evaluate
from metarl.agents import AGENTS, RL2, OfflineLearner
from metarl.agents.classical.random_actions import RandomActions
from metarl.data import Histories, record
from metarl.experiments.cli import main as cli
from metarl.experiments.runs.run import Run
from metarl.seeding import stream, stream_seed


def small(family=None, seed=0, **options):
    return RL2(
        family or strolls(),
        seed=seed,
        policy_kwargs={"hidden_size": 8},
        **{
            "trials_per_iteration": 4,
            "trials_per_minibatch": 2,
            "n_epochs": 2,
            "normalize_observation": True,
            "normalize_reward": True,
            **options,
        },
    )


def bits(agent):
    return {
        f"{name}.{key}": tensor.clone()
        for name, module in agent.modules.items()
        for key, tensor in module.state_dict().items()
    }


def same_bits(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# In one process.


def test_same_seed_same_bits_other_seed_other_bits(tmp_path):
    results = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        agent = small(seed=seed)
        logger = configure(str(tmp_path / name), ["csv"])
        agent.set_logger(logger)
        agent.learn(300)
        logger.close()
        results.append((bits(agent), rows_of(tmp_path / name / "progress.csv")))
    assert len(results[0][1]) > 3
    assert same_bits(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not same_bits(results[0][0], results[2][0])


RELATIVES = {"anil", "e-maml", "fomaml", "promp", "reptile"}  # of MAML, with its distributions


@pytest.mark.parametrize(
    ("name", "family"),
    [pytest.param(name, strolls(episodes_per_trial=2), id=f"{name}-box") for name in AGENTS]
    + [
        pytest.param(
            name,
            risk(),
            id=f"{name}-discrete",
            marks=[pytest.mark.slow] if name in RELATIVES else [],
        )
        for name in AGENTS
    ],
)
def test_every_agent_repeats_itself_and_leaves_the_global_generators_alone(name, family, tmp_path):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (to see that it is left alone)
    torch.manual_seed(0)

    def generators():
        return str((random.getstate(), np.random.get_state())), torch.get_rng_state()  # noqa: NPY002

    actor, oracle = RandomActions(family), RandomActions(family.oracle())
    data = record(actor, family, tmp_path / "data", num_tasks=8, labels=oracle)

    def trained():
        agent = AGENTS[name](family, seed=0)
        if isinstance(agent, OfflineLearner):
            return agent.learn(Histories(data), 1)
        return agent.learn(1)

    before = generators()
    agents = [trained() for _ in range(2)]
    assert same_bits(bits(agents[0]), bits(agents[1]))
    evaluate(agents[0], family, num_tasks=2)
    agents[0].save(tmp_path / "agent")
    AGENTS[name].load(tmp_path / "agent", family)
    after = generators()
    assert after[0] == before[0]
    assert torch.equal(after[1], before[1])


def test_the_global_generators_do_not_matter():
    agents = []
    for seed in range(2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (that is what must not matter)
        agents.append(small().learn(60))
    assert same_bits(*map(bits, agents))


def test_evaluation_does_not_change_training():
    family = strolls()
    straight, evaluated = small(family), small(family)
    straight.learn(200)
    evaluated.learn(100)
    returns = evaluate(evaluated, family, num_tasks=5).returns
    evaluated.predict(np.zeros(evaluated.trial_input.size))
    np.testing.assert_array_equal(evaluate(evaluated, family, num_tasks=5).returns, returns)
    evaluated.learn(straight.num_timesteps - evaluated.num_timesteps, reset_num_timesteps=False)
    assert evaluated.num_timesteps == straight.num_timesteps
    assert same_bits(bits(straight), bits(evaluated))


def test_streams_are_named_and_independent():
    paths = [("a",), ("b",), ("a", 0), ("a", 1), ("a", "0"), (97,), ("a", "b"), ("b", "a"), (0, 97)]
    seeds = [stream_seed(seed, *path) for seed in (0, 1) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert stream_seed(0, "a", 1) == stream_seed(0, "a", 1)
    assert stream_seed(stream(0, "a"), 1) == stream_seed(0, "a", 1)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_tasks_of_a_split_do_not_depend_on_who_else_draws():
    family = risk()
    first = family.sample("train", 5, seed=1)
    family.sample("held_out", 50, seed=1)
    assert family.sample("train", 5, seed=1) == first


# Killed and resumed. Each moment is a kill -9 of the real command line at that very place.

TRAIN = {
    "rl2": [
        *("train", "rl2", "bandit-10x5", "--threads", "1", "--total-timesteps", "560"),
        *("--set", "trials_per_iteration=8", "--set", "trials_per_minibatch=4"),
        *("--set", "n_epochs=1", "--set", "first_episodes_per_trial=5"),
        *("--set", "normalize_reward=true", "--set", 'policy_kwargs={"hidden_size": 8}'),
        *("--eval-every", "2"),
    ],
    "maml": [
        *("train", "maml", "killed_runs:plane", "--threads", "1", "--total-timesteps", "450"),
        *("--set", "meta_batch_size=2", "--set", "episodes_per_adaptation=2"),
        *("--set", "outer=ppo", "--set", "learn_inner_lr=per_parameter"),
        *("--set", 'policy_kwargs={"hidden_sizes": [8]}', "--eval-every", "3"),
    ],
}
ITERATIONS = {"rl2": 9, "maml": 6}
INTERRUPTS = [moment for moment in killed_runs.MOMENTS if "ctrl-c" in moment]
KILLS = [moment for moment in killed_runs.MOMENTS if moment and moment not in INTERRUPTS]
TWICE = "in a later rollout, and again"
# The most different ones; all others are slow tests.
FIRST = [
    "first step",
    "in a later rollout",
    "in a row of the log",
    "checkpoint written, not in place",
    "before the evaluation",
    "ctrl-c",
    "maml, after the inner step of a later iteration",
    TWICE,
]
OTHERS = [moment for moment in [*KILLS, *INTERRUPTS] if moment not in FIRST]


def agent_of(moment):
    return "maml" if moment.startswith("maml") else "rl2"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """For each agent the run directory of a training that nobody disturbed."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        killed_runs.make_small(patch.setattr)
        for agent, command in TRAIN.items():
            assert cli.main([*command, "--run-dir", str(root / agent)]) == 0
            assert len(rows_of(root / agent / "progress.csv")) == ITERATIONS[agent]
    return {agent: root / agent for agent in TRAIN}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    return kill_at(FIRST, tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def killed_elsewhere(tmp_path_factory):
    return kill_at(OTHERS, tmp_path_factory.mktemp("killed"))


def kill_at(moments, root):
    """Return for each moment the run directory, and what the children said and returned."""
    scenarios = {}
    for moment in moments:
        directory = str(root / moment)
        train = [*TRAIN[agent_of(moment)], "--run-dir", directory]
        first = [[train, moment.removesuffix(", and again")]]
        resumes = [[["resume", directory], ""]]
        if moment == TWICE:
            resumes = [[["resume", directory], "first step"], *resumes]
        scenarios[moment] = first + resumes
    done = subprocess.run(
        [sys.executable, killed_runs.__file__],
        input=json.dumps(list(scenarios.values())),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        moment: (root / moment, steps) for moment, steps in zip(scenarios, json.loads(done.stdout))
    }


@pytest.mark.parametrize("moment", FIRST)
def test_a_killed_and_resumed_run_ends_in_the_same_bits(whole, killed, moment):
    check_resumed(*killed[moment], moment, whole[agent_of(moment)])


@pytest.mark.slow
@pytest.mark.parametrize("moment", OTHERS)
def test_a_run_killed_elsewhere_ends_in_the_same_bits(whole, killed_elsewhere, moment):
    check_resumed(*killed_elsewhere[moment], moment, whole[agent_of(moment)])


def check_resumed(directory, steps, moment, whole):
    *kills, (code, errors) = steps
    assert [code for code, _ in kills] == [-9 if moment not in INTERRUPTS else 130] * len(kills)
    if moment in INTERRUPTS:
        assert "Traceback" not in kills[0][1]
        assert "metarl resume" in kills[0][1]
    assert code == 0, errors
    for name in ("agent.safetensors", "evaluation/held_out.npz"):
        assert (directory / name).read_bytes() == (whole / name).read_bytes(), name
    assert rows_of(directory / "progress.csv") == rows_of(whole / "progress.csv")
    assert scalars(directory) == scalars(whole)
    left = {path.name for path in directory.iterdir() if "tfevents" not in path.name}
    assert left == {path.name for path in whole.iterdir() if "tfevents" not in path.name}


def test_tensorboard_shows_every_step_once_and_the_adaptation_curve(whole):
    whole = whole["rl2"]
    shown, images = scalars(whole)
    total = [int(row["time/total_timesteps"]) for row in rows_of(whole / "progress.csv")]
    assert [step for step, _ in shown["rollout/return_last_episode"]] == total
    assert [step for step, _ in shown["validation/return_last_episode"]] == total[::2]
    assert [step for step, _ in shown["held_out/return_by_experience"]] == list(range(10))
    returns = Report.load(whole / "evaluation" / "held_out.npz").returns
    np.testing.assert_allclose(
        [value for _, value in shown["held_out/return_by_experience"]], np.mean(returns, axis=0)
    )
    assert images == ["held_out/curve"]


def test_kills_come_at_different_moments(killed):
    # Else they would prove the same thing again and again: some leave a checkpoint, some do not.
    _, steps = killed["first step"]
    assert "100%" not in steps[0][1]
    assert "100%" in killed["before the evaluation"][1][0][1]
    assert "100%" not in killed["before the evaluation"][1][1][1]  # nothing to be trained again
    starts = [killed[m][1][1][1].splitlines()[0] for m in ("first step", "in a later rollout")]
    assert starts[0].startswith("training 10%")
    assert not starts[1].startswith("training 10%")


def test_ctrl_c_says_how_to_go_on(killed):
    directory, ((_, errors), _) = killed["ctrl-c"]
    assert "stopping after this step; Ctrl-C again stops at once" in errors
    last = errors.strip().splitlines()[-1]
    assert last.endswith(f"env steps and saved; continue with: metarl resume {directory}")
    assert "Traceback" not in errors


def test_what_was_logged_before_a_kill_is_not_logged_twice(whole, tmp_path):
    # The same again, one level lower: a log that is ahead of the checkpoint is cut back to it.
    copy = tmp_path / "run"
    shutil.copytree(whole["rl2"], copy)
    rows = rows_of(copy / "progress.csv")
    middle = int(rows[4]["time/total_timesteps"])
    with (copy / "progress.csv").open("a") as file:
        file.write("1.0,0.")
    log = Run.open(copy).logger(middle)
    assert rows_of(copy / "progress.csv") == rows[:5]
    log.record("time/total_timesteps", middle + 10)
    log.record("new/column", 7)
    log.dump(middle + 10)
    log.record("only/tensorboard", 7, exclude="csv")
    log.dump(middle + 20)
    log.close()
    after = rows_of(copy / "progress.csv")
    assert len(after) == 6
    assert (after[5]["new/column"], after[4]["new/column"]) == ("7", "")
    shown, _ = scalars(copy)
    steps = [step for step, _ in shown["time/total_timesteps"]]
    assert steps == [int(row["time/total_timesteps"]) for row in after]
    assert all(a < b for a, b in itertools.pairwise(steps))
