"""An agent outside the laboratory: loaded without its family, in one environment, saved."""

import numpy as np
import pytest
import torch
from deployed import BOX, EVERYTHING, Life, interface, shaken
from gymnasium import spaces
from toys import strolls

from metarl import agents, evaluate
from metarl.agents import AD, DPT, MAML, RL2, MultiTask, VariBAD
from metarl.agents.training.checkpoint import load_checkpoint, save_checkpoint
from metarl.batches import take
from metarl.evaluation.adaptation import rollout
from metarl.spaces import from_json, to_json

MASKED = spaces.Dict({"action_mask": spaces.MultiBinary(3), "place": BOX})
SMALL = {"hidden_size": 8}
RL2_OPTIONS = {
    "trials_per_iteration": 4,
    "trials_per_minibatch": 4,
    "normalize_observation": True,
    "normalize_reward": True,
}
KINDS = {
    "gru": lambda tasks: RL2(tasks, seed=0, policy_kwargs=SMALL, **RL2_OPTIONS),
    "transformer, reset": lambda tasks: RL2(
        tasks,
        seed=0,
        reset_memory_every=2,
        policy_kwargs={**SMALL, "memory": "transformer", "memory_kwargs": {"context": 5}},
        **RL2_OPTIONS,
    ),
    "privileged": lambda tasks: RL2(
        tasks,
        seed=0,
        task_prediction_coef=0.1,
        policy_kwargs={**SMALL, "privileged_critic": True},
        **RL2_OPTIONS,
    ),
    "maml": lambda tasks: MAML(
        tasks, seed=0, meta_batch_size=3, episodes_per_adaptation=2, learn_inner_lr="per_step"
    ),
    "varibad": lambda tasks: VariBAD(tasks, seed=0, policy_kwargs=SMALL, **RL2_OPTIONS),
    "ad": lambda tasks: AD(tasks, seed=0, policy_kwargs=SMALL),
    "dpt": lambda tasks: DPT(tasks, seed=0, context=7, policy_kwargs={"hidden_size": 8}),
    "multi-task": lambda tasks: MultiTask(tasks, seed=0, num_envs=4, batch_size=16),
}


@pytest.mark.parametrize("name", KINDS)
def test_an_agent_is_loaded_without_its_family_and_acts_the_same(name, tmp_path):
    agent = shaken(KINDS[name](strolls()))
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent")
    expected = evaluate(agent, strolls(), num_tasks=3, num_episodes=4, seed=1)
    report = evaluate(loaded, strolls(), num_tasks=3, num_episodes=4, seed=1)
    assert (report.returns == expected.returns).all()
    alike = agents.load(tmp_path / "agent")
    assert type(alike) is type(agent)
    alike.save(tmp_path / "again")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "agent.safetensors"
    ).read_bytes()


def test_an_agent_without_its_family_does_not_train(tmp_path):
    KINDS["gru"](strolls()).save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"acts and does not train; pass tasks: RL2\.load\(path"):
        loaded.learn(10)
    tensors, state = load_checkpoint(tmp_path / "agent.safetensors")
    del state["horizon"]
    save_checkpoint(tmp_path / "old.safetensors", tensors, state)
    with pytest.raises(ValueError, match="pass tasks: 'horizon' must be an integer"):
        agents.load(tmp_path / "old")
    save_checkpoint(tmp_path / "own.safetensors", tensors, {**state, "agent": "Mine"})
    with pytest.raises(ValueError, match="unknown kind of agent 'Mine'"):
        agents.load(tmp_path / "own")


@pytest.mark.parametrize(
    "space",
    [
        EVERYTHING,
        MASKED,
        spaces.Box(0, 255, (4, 4, 3), np.uint8),
        spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Tuple([BOX]))]),
    ],
)
def test_a_space_comes_back_from_a_file(space):
    saved = to_json(space)
    found = from_json(saved)
    assert found == space
    assert list(to_json(found).items()) == list(saved.items())


@pytest.mark.parametrize("saved", [{}, {"type": "Box"}, {"type": "Sphere"}, {"type": "Dict"}, 3])
def test_a_damaged_space_is_refused(saved):
    with pytest.raises(ValueError, match="expected the description of a space"):
        from_json(saved)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "maml"])
def test_a_session_acts_as_a_batch_of_one_does(name):
    agent = shaken(KINDS[name](strolls()))
    taken = []

    def keep(transition):
        taken.append(take(transition.actions, 0))
        return True

    env = strolls().make_vec(1)
    observations, _ = env.reset(seed=5)
    rollout(env, observations, agent.adaptation(1, seed=3), 6, keep)
    observations, _ = env.reset(seed=5)
    session, actions, num_episodes = agent.session(seed=3), [], 0
    while num_episodes < 6:
        actions.append(session.act(observations[0]))
        observations, rewards, terminated, truncated, info = env.step(actions[-1][None])
        ended = terminated[0] or truncated[0]
        last = info["final_obs"] if ended else observations
        session.observe(last[0], rewards[0], terminated[0], truncated[0])
        num_episodes += ended
    assert (np.array(actions) == np.array(taken)).all()


def test_maml_adapts_in_a_session_as_in_one_environment_of_each_task():
    agent = shaken(KINDS["maml"](interface(BOX, BOX)))
    session, life = agent.session(seed=1), Life(BOX, 60)
    life.lived(session)
    adaptation = session._adaptation
    assert adaptation.num_inner_steps == sum(life.ends[:-1]) // 2
    start = agent.policy.stacked(1)
    assert not torch.equal(adaptation.parameters["weight0"], start["weight0"])
    with pytest.raises(ValueError, match="needs sampled actions"):
        agent.session(deterministic=True)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("multi-task",)])
def test_a_saved_session_continues_bit_for_bit(name, tmp_path):
    sights = BOX if name == "dpt" else MASKED
    agent = shaken(KINDS[name](interface(sights, spaces.Discrete(3, start=2))))
    session, life = agent.session(seed=3), Life(sights, 60)
    life.lived(session, stop=33)
    session.save(tmp_path / "session")
    expected = life.lived(session, 33)
    agent.save(tmp_path / "agent", with_optimizers=False)
    restored = type(agent).load(tmp_path / "agent").session(seed=9)
    restored.restore(tmp_path / "session")
    assert life.lived(restored, 33) == expected
    assert len(set(map(int, expected))) > 1
    assert life.lived(agent.session(seed=9), 33) != expected


def test_a_session_of_composite_actions_is_saved_before_its_first_step_and_after(tmp_path):
    agent = shaken(KINDS["gru"](interface(EVERYTHING, EVERYTHING)))
    life = Life(EVERYTHING, 12)
    for start in (0, 7):
        session = agent.session(seed=1)
        life.lived(session, stop=start)
        session.save(tmp_path / "session")
        restored = agent.session(seed=2)
        restored.restore(tmp_path / "session")
        one, other = life.lived(session, start), life.lived(restored, start)
        assert all(EVERYTHING.contains(action) for action in one)
        assert str(one) == str(other)


def test_a_deterministic_session_takes_the_most_likely_action(tmp_path):
    agent = shaken(KINDS["gru"](interface(BOX, BOX)))
    life = Life(BOX, 20)
    one, other = (life.lived(agent.session(seed=s, deterministic=True)) for s in (1, 2))
    assert (np.array(one) == np.array(other)).all()


def test_a_session_refuses_what_is_out_of_order(tmp_path):
    agent = KINDS["gru"](interface(BOX, BOX))
    session, seen = agent.session(), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="without an action: call act"):
        session.observe(seen, 0.0, False, False)
    with pytest.raises(ValueError, match="takes one observation of Box"):
        session.act(seen[None])
    with pytest.raises(ValueError, match="expected observations of shape"):
        session.act(np.zeros(3))
    session.act(seen)
    with pytest.raises(ValueError, match=r"twice: pass the outcome of each action to observe\(\)"):
        session.act(seen)
    with pytest.raises(ValueError, match=r"saved after observe\(\)"):
        session.save(tmp_path / "session")
    with pytest.raises(TypeError, match="reward must be a number, got 'much'"):
        session.observe(seen, "much", False, False)
    session.observe(seen, 0.0, False, False)
    session.save(tmp_path / "session")
    other = shaken(KINDS["gru"](interface(BOX, BOX)))
    with pytest.raises(ValueError, match="holds no session of this RL2: its weights are others"):
        other.session().restore(tmp_path / "session")
    with pytest.raises(ValueError, match="sessions of multi-task cannot be saved"):
        KINDS["multi-task"](interface(BOX, BOX)).session().save(tmp_path / "none")
