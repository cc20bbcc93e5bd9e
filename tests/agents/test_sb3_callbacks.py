"""SB3's callbacks and evaluate_policy with every agent; RL2's are in test_sb3_interface.py too."""

from dataclasses import replace

import numpy as np
import pytest
from stable_baselines3.common import callbacks
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import aim

from metarl import Task, TaskEnv, TrialEnv, evaluate, rollout
from metarl.agents import MAML, RL2, EvaluationCallback, MultiTask, TaskVecEnv, VariBAD
from metarl.agents.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")

OPTIONS = {
    RL2: {
        "trials_per_iteration": 4,
        "trials_per_minibatch": 2,
        "n_epochs": 1,
        "policy_kwargs": {"hidden_size": 8},
    },
    VariBAD: {
        "trials_per_iteration": 4,
        "trials_per_minibatch": 2,
        "n_epochs": 1,
        "vae_gradient_steps": 1,
        "policy_kwargs": {"hidden_size": 8},
    },
    MAML: {
        "meta_batch_size": 2,
        "episodes_per_adaptation": 2,
        "outer": "ppo",  # always moves: a line search refuses a step on so few episodes
        "policy_kwargs": {"hidden_sizes": (8,)},
    },
    MultiTask: {"num_envs": 256, "n_epochs": 1, "policy_kwargs": {"hidden_sizes": (8,)}},
}
# Vector steps of an iteration on aim(): 4 episodes, a round before the inner step and one after,
# SB3's least rollout of 2048 steps in 256 environments.
ROUNDS = {RL2: 4, VariBAD: 4, MAML: 2, MultiTask: 8}
NUM_ENVS = {RL2: 4, VariBAD: 4, MAML: 4, MultiTask: 256}
ON_TRIALS = (RL2, VariBAD)
every_agent = pytest.mark.parametrize("kind", [RL2, VariBAD, MAML, MultiTask])


def small(kind, **options):
    return kind(aim(), seed=7, **{**OPTIONS[kind], **options})


def iteration_steps(kind):
    """The env steps of an iteration; episodes have one step."""
    return NUM_ENVS[kind] * ROUNDS[kind]


def single_env(kind, target=1.0):
    """What the agent is evaluated in: whole trials with a memory, else episodes of one task."""
    if kind in ON_TRIALS:
        return TrialEnv(aim(), "held_out")
    env = TaskEnv(aim().make_vec(1))
    env.set_task(Task("aim", {"target": target}))
    return env


@every_agent
def test_checkpoints_act_as_the_agent_did(kind, tmp_path):
    acted = []

    class Act(callbacks.BaseCallback):
        """Writes down what the agent does before each iteration."""

        def _on_rollout_start(self):
            acted.append(agent.predict(rows, deterministic=True)[0])

        def _on_step(self):
            return True

    agent = small(kind)
    env = single_env(kind)
    rows = np.array([env.observation_space.sample() for _ in range(5)])
    checkpoints = callbacks.CheckpointCallback(
        ROUNDS[kind] + 1, str(tmp_path), "model", save_replay_buffer=True, save_vecnormalize=True
    )
    agent.learn(2 * iteration_steps(kind), callback=[Act(), checkpoints])
    # Named by the env steps at that moment, a vector step into the second iteration.
    name = f"model_{iteration_steps(kind) + NUM_ENVS[kind]}_steps"
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.safetensors"]
    for given in (name, f"{name}.zip", f"{name}.safetensors"):
        loaded = kind.load(tmp_path / given, aim())
        assert (loaded.num_timesteps, loaded.iteration) == (iteration_steps(kind), 1)
        again = loaded.predict(rows, deterministic=True)[0]
        np.testing.assert_array_equal(again, acted[1])
    # Untrained, or after the second iteration, an agent acts otherwise.
    assert not np.array_equal(acted[0], acted[1])
    assert not np.array_equal(agent.predict(rows, deterministic=True)[0], acted[1])


@every_agent
def test_eval_callback_and_what_hangs_on_it(kind, tmp_path):
    evaluation = callbacks.EvalCallback(
        Monitor(single_env(kind)),
        callback_on_new_best=callbacks.StopTrainingOnRewardThreshold(-100.0),
        n_eval_episodes=3,
        eval_freq=ROUNDS[kind] + 1,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
    )
    agent = small(kind).learn(10 * iteration_steps(kind), callback=evaluation)
    # Any return is above -100: the first evaluation, early in the second iteration, stops.
    assert agent.num_timesteps == iteration_steps(kind)
    written = np.load(tmp_path / "evaluations.npz")
    assert written["timesteps"].tolist() == [NUM_ENVS[kind] * (ROUNDS[kind] + 1)]
    best = kind.load(tmp_path / "best_model", aim())
    env = Monitor(single_env(kind))  # a new one, so that trials are the same
    returns, _ = evaluate_policy(best, env, 3, return_episode_rewards=True)
    np.testing.assert_allclose(written["results"][0], returns, atol=1e-6)


@every_agent
def test_training_goes_on_below_the_threshold(kind):
    evaluation = callbacks.EvalCallback(
        Monitor(single_env(kind)),
        callback_on_new_best=callbacks.StopTrainingOnRewardThreshold(100.0),
        callback_after_eval=callbacks.StopTrainingOnNoModelImprovement(10**6),
        eval_freq=ROUNDS[kind],
        verbose=0,
    )
    agent = small(kind).learn(3 * iteration_steps(kind), callback=evaluation)
    assert agent.iteration == 3


@every_agent
def test_a_callback_that_evaluates_leaves_training_alone(kind):
    agents = []
    for frequency in (max(ROUNDS[kind] // 4, 1), 10**9):
        evaluation = callbacks.EvalCallback(
            Monitor(single_env(kind)), eval_freq=frequency, deterministic=False, verbose=0
        )
        agents.append(small(kind).learn(2 * iteration_steps(kind), callback=evaluation))
    evaluated, alone = agents
    for module in alone.modules:
        pairs = zip(evaluated.modules[module].parameters(), alone.modules[module].parameters())
        assert all(mine.equal(theirs) for mine, theirs in pairs)


@every_agent
def test_stop_on_max_episodes(kind):
    # Every vector step ends an episode in each environment: the third iteration is begun.
    stop = callbacks.StopTrainingOnMaxEpisodes(2 * ROUNDS[kind] + 1)
    agent = small(kind).learn(100 * iteration_steps(kind), callback=stop)
    assert (agent.num_timesteps, agent.iteration) == (2 * iteration_steps(kind), 2)


@every_agent
@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_counting_and_progress(kind):
    pytest.importorskip("tqdm")
    moments = []

    class Count(callbacks.BaseCallback):
        def _on_step(self):
            moments.append(self.num_timesteps)
            return True

    every = callbacks.EveryNTimesteps(iteration_steps(kind), Count())
    log = callbacks.LogEveryNTimesteps(iteration_steps(kind))
    agent = small(kind)
    agent.learn(2 * iteration_steps(kind), callback=[every, log, callbacks.ProgressBarCallback()])
    assert moments == [iteration_steps(kind), 2 * iteration_steps(kind)]


@every_agent
def test_evaluate_policy_counts_what_the_environment_pays(kind):
    agent = small(kind)
    env = Monitor(single_env(kind))
    returns, lengths = evaluate_policy(agent, env, 4, return_episode_rewards=True)
    assert lengths == [4 if kind in ON_TRIALS else 1] * 4
    if kind not in ON_TRIALS:  # no memory, nothing to see: the same action in every episode
        action, _ = agent.predict(np.int64(0), deterministic=True)
        assert returns == pytest.approx([1.0 - abs(float(action[0]) - 1.0)] * 4, abs=1e-5)


@every_agent
def test_evaluate_policy_in_a_batch_of_held_out_tasks(kind):
    trials = {"episodes_per_trial": 4} if kind in ON_TRIALS else {}
    venv = TaskVecEnv(aim(), 5, split="held_out", **trials)
    returns, lengths = evaluate_policy(
        small(kind), venv, 10, return_episode_rewards=True, warn=False
    )
    assert lengths == [4 if kind in ON_TRIALS else 1] * 10
    # Both targets occur: whatever one action earns in both tasks, it is not the same.
    assert len(set(np.round(returns, 6))) > 1


def test_maml_before_and_after_adaptation():
    agent = small(MAML, episodes_per_adaptation=20, inner_lr=3.0)
    for target in (-1.0, 1.0):
        env = single_env(MAML, target)
        before, _ = evaluate_policy(agent, Monitor(env), 200, deterministic=False)
        observations, _ = env.vector_env.reset(seed=0)
        adaptation = agent.adaptation(1, seed=0, sequential=True)
        rollout(env.vector_env, observations, adaptation, num_episodes=60)
        after, _ = evaluate_policy(adaptation.policy(0), Monitor(env), 200, deterministic=False)
        # Without adaptation the two tasks earn 0 on average, whatever the actions are.
        assert after > before + 0.3
        again, _ = evaluate_policy(agent, Monitor(env), 200, deterministic=False)
        assert again == pytest.approx(before, abs=0.25)  # the agent itself has not changed


@every_agent
def test_an_environment_of_the_other_kind_is_refused_with_the_reason(kind):
    other = TaskEnv(aim().make_vec(1)) if kind in ON_TRIALS else TrialEnv(aim())
    expected = "as from a TrialEnv" if kind in ON_TRIALS else "without a memory .* as TaskEnv gives"
    with pytest.raises(ValueError, match=expected):
        evaluate_policy(small(kind), Monitor(other), 1)


@every_agent
def test_validation_tasks_are_evaluated_while_training_and_change_nothing(kind, tmp_path):
    agent, alone = small(kind, tensorboard_log=str(tmp_path / "log")), small(kind)
    evaluated = []

    class Evaluator(callbacks.BaseCallback):
        """Evaluates the agent at the same moments by itself."""

        def _on_step(self):
            return True

        def _on_rollout_start(self):
            rounds = 2 * agent.episodes_per_adaptation if kind is MAML else None
            self._evaluate(rounds)

        def _on_training_end(self):
            self._evaluate(2 * agent.episodes_per_adaptation if kind is MAML else None)

        def _evaluate(self, rounds):
            options = {"split": "validation", "num_tasks": 6, "num_episodes": rounds, "seed": 3}
            evaluated.append(evaluate(agent, agent.tasks, **options))

    selection = EvaluationCallback(2, num_tasks=6, seed=3, best_path=tmp_path / "best")
    agent.learn(5 * iteration_steps(kind), [selection, Evaluator()])
    alone.learn(5 * iteration_steps(kind))
    for one, other in zip(agent._state()[0].values(), alone._state()[0].values(), strict=True):
        np.testing.assert_array_equal(one, other)
    # At iterations 0, 2 and 4 of 5, with the parameters that collected, and at the end.
    assert len(evaluated) == 6
    np.testing.assert_array_equal(selection.report.returns, evaluated[5].returns)
    events = EventAccumulator(str(next((tmp_path / "log").iterdir()))).Reload()
    for name in ("first", "last"):
        logged = events.Scalars(f"validation/return_{name}_episode")
        assert [event.step for event in logged] == [n * iteration_steps(kind) for n in (1, 3, 5)]
        means = [getattr(report, name).mean() for report in evaluated]
        np.testing.assert_allclose([event.value for event in logged], means[::2], rtol=1e-6)
    assert selection.best == max([*means[::2], means[5]])
    best = kind.load(tmp_path / "best", aim())
    assert means[best.iteration] == selection.best


@every_agent
def test_the_best_agent_may_be_that_of_the_last_update(kind, tmp_path, monkeypatch):
    def better_with_each_update(agent, tasks, **options):
        report = evaluate(agent, tasks, **{**options, "num_tasks": 1})
        return replace(report, returns=np.full_like(report.returns, agent.iteration))

    monkeypatch.setattr("metarl.agents.training.callbacks.evaluate", better_with_each_update)
    selection = EvaluationCallback(100, best_path=tmp_path / "best")
    small(kind).learn(2 * iteration_steps(kind), selection)
    assert selection.best == 2.0
    assert kind.load(tmp_path / "best", aim()).iteration == 2


@every_agent
def test_a_stopped_training_does_not_end_with_an_evaluation(kind):
    stop = callbacks.StopTrainingOnMaxEpisodes(1)
    selection = EvaluationCallback(100, num_tasks=1)
    agent = small(kind)
    agent.learn(5 * iteration_steps(kind), [selection, stop])
    untrained = evaluate(
        small(kind),
        aim(),
        split="validation",
        num_tasks=1,
        num_episodes=selection.report.num_episodes,
    )
    np.testing.assert_array_equal(selection.report.returns, untrained.returns)


@every_agent
def test_the_best_agents_file_is_replaced_in_another_session_only_by_a_better_one(kind, tmp_path):
    path = tmp_path / "best.safetensors"
    first = EvaluationCallback(num_tasks=6, best_path=path)
    small(kind).learn(1, first)
    content = path.read_bytes()
    again = EvaluationCallback(num_tasks=6, best_path=path)
    small(kind).learn(1, again)  # the same agent once more is no better
    assert again.best == first.best
    assert path.read_bytes() == content

    worse = EvaluationCallback(num_tasks=6, best_path=path)
    agent = small(kind)
    agent.save(path, notes={"selected": {**note_of(agent), "return": first.best - 1.0}})
    agent.learn(1, worse)
    assert worse.best == first.best
    assert load_checkpoint(path)[1]["notes"]["selected"]["return"] == first.best

    # Another evaluation gives scores that do not compare.
    content = path.read_bytes()
    small(kind).learn(1, EvaluationCallback(num_tasks=6, seed=9, best_path=path))
    assert path.read_bytes() != content


def note_of(agent):
    return {
        "agent": type(agent).__name__,
        "tasks": "aim",
        "split": "validation",
        "num_tasks": 6,
        "num_episodes": None,
        "seed": 0,
    }


def test_what_an_evaluation_callback_refuses():
    for options, message in (
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"num_tasks": 0}, "num_tasks must be at least 1, got 0"),
        ({"num_episodes": 0}, "num_episodes must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            EvaluationCallback(**options)
    with pytest.raises(TypeError, match="best_path must be a path or None, got 3"):
        EvaluationCallback(best_path=3)
    agent = small(RL2)
    with pytest.raises(ValueError, match="unknown split of 'aim': 'uphill'"):
        agent.learn(1, EvaluationCallback(split="uphill"))
    assert agent.num_timesteps == 0
