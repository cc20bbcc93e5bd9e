"""Exported graphs do what the agents do, step by step, over the episodes of a trial."""

import json

import numpy as np
import pytest
import torch
from deployed import BOX, EVERYTHING, Life, Runner, interface, shaken
from gymnasium import spaces

from metarl.agents import AD, DPT, MAML, RL2, MultiTask, VariBAD
from metarl.agents.common.graph import named

pytest.importorskip("onnxruntime")

MASKED = spaces.Dict({"action_mask": spaces.MultiBinary(5), "place": BOX})
PICTURE = spaces.Dict({"seen": spaces.Box(0, 255, (8, 8, 3), np.uint8), "speed": BOX})
SIGHT = spaces.Dict({"number": spaces.Discrete(3), "place": BOX})
TOOLS = spaces.MultiDiscrete([2, 3], start=[1, -1])


def rl2(memory="gru", kwargs=None, **options):
    hyperparameters = {
        name: options.pop(name) for name in ("reset_memory_every",) if name in options
    }
    normalized = options.pop("normalized", True)
    network = {"hidden_size": 16, "memory": memory, "memory_kwargs": kwargs, **options}

    def make(*family):
        return RL2(
            interface(*family),
            seed=0,
            normalize_observation=normalized,
            normalize_reward=normalized,
            policy_kwargs=network,
            **hyperparameters,
        )

    return make


def maml(*family):
    return MAML(interface(*family), seed=0)


def varibad(*family):
    return VariBAD(interface(*family), seed=0, normalize_reward=True)


def ad(*family):
    return AD(interface(*family), seed=0, policy_kwargs={"hidden_size": 16})


CASES = {
    "gru": (rl2(), BOX, BOX),
    "as they are": (rl2(normalized=False), BOX, BOX),  # observations and rewards
    "lstm": (rl2("lstm", separate_critic=True), BOX, spaces.Discrete(3, start=2)),
    "linear": (rl2("linear"), BOX, BOX),
    "none": (rl2("none"), BOX, BOX),
    "episodic": (rl2("episodic", {"recall_encoder": [4]}), BOX, BOX),
    "transformer": (rl2("transformer", {"num_layers": 1}), BOX, BOX),
    "short context": (rl2("transformer", {"context": 4}), BOX, spaces.Discrete(3)),
    "context of one": (rl2("transformer", {"context": 1}), BOX, BOX),
    "reset": (rl2(reset_memory_every=2), BOX, spaces.Discrete(3)),
    "transformer, reset": (rl2("transformer", reset_memory_every=2), BOX, spaces.Discrete(3)),
    "episodic, reset": (rl2("episodic", reset_memory_every=2), BOX, BOX),
    "hypernetwork": (rl2(hypernetwork=[8]), BOX, BOX),
    "skip": (rl2(skip=True), BOX, BOX),
    "layers": (rl2("lstm", encoder=[8], head=[8]), BOX, BOX),
    "everything": (rl2(), EVERYTHING, EVERYTHING),
    "mask": (rl2(), MASKED, TOOLS),
    "picture": (rl2(channels=[4, 4]), PICTURE, spaces.MultiBinary(3)),
    "maml": (maml, BOX, BOX),
    "maml, everything": (maml, EVERYTHING, EVERYTHING),
    "maml, mask": (maml, MASKED, TOOLS),
    "varibad": (varibad, EVERYTHING, BOX),
    "varibad, mask": (varibad, MASKED, TOOLS),
    "ad": (ad, BOX, spaces.Discrete(3)),
}


def parts_of(action, space):
    """Return the parts of a value by the names that the outputs of a graph have."""
    found = {}
    for name, _ in named("", space):
        value = action
        for key in name.split(".")[1:]:
            value = value[key if isinstance(value, dict) else int(key)]
        found[f"action{name}"] = value
    return found


def recorded(agent):
    """Return a list that what the policy puts out is appended to, where a network acts."""
    outputs = []
    if isinstance(agent, MAML):
        return outputs
    act = agent.network.act

    def spied(*arguments):
        found, state = act(*arguments)
        outputs.append(found[0].numpy())
        return found, state

    agent.network.act = spied
    return outputs


def check(case, path, num_steps):
    make, sights, acts = CASES[case]
    agent = shaken(make(sights, acts), 0.1)
    agent.export(path)
    outputs = recorded(agent)
    runner, life = Runner(path), Life(sights, num_steps)
    # MAML's sessions adapt, its graph is the policy before.
    session = None if isinstance(agent, MAML) else agent.session(deterministic=True)
    taken = set()
    for step in range(num_steps):
        seen, reward, ended = life.observations[step], life.rewards[step], life.ends[step]
        if session is None:
            action, _ = agent.predict(seen, deterministic=True)
        else:
            action = session.act(seen)
            session.observe(life.observations[step + 1], reward, False, ended)
        found = runner.step(seen)
        for name, expected in parts_of(action, acts).items():
            assert found[name].dtype == np.asarray(expected).dtype, name
            scale = max(1.0, float(np.abs(expected).max()))
            difference = np.abs(found[name].astype(np.float64) - expected).max()
            assert difference <= 1e-6 * scale, (step, name, difference)
        if "logits" in found and outputs:
            assert np.abs(found["logits"] - outputs[-1]).max() <= 1e-6, step
        taken.add(str(action))
        runner.follow(action, reward, ended)
    assert len(taken) > 1 or len(outputs) > 1


@pytest.mark.parametrize("case", CASES)
def test_a_graph_takes_the_steps_of_its_agent(case, tmp_path):
    check(case, tmp_path / "agent.onnx", 40)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_graph_takes_a_thousand_steps_of_its_agent(case, tmp_path):
    check(case, tmp_path / "agent.onnx", 1000)


def test_a_graph_gives_the_distribution_to_draw_actions_from(tmp_path):
    agent = rl2()(BOX, EVERYTHING)
    agent.export(tmp_path / "agent.onnx")
    found = Runner(tmp_path / "agent.onnx").step(np.zeros(2, np.float32))
    outputs = agent.network.act(
        agent.normalizer()(torch.zeros(1, agent.trial_input.size)),
        torch.zeros(1, 0, dtype=torch.uint8),
        agent.network.initial_state(1),
    )[0]
    aim, tool, switches, which, whole = agent.network.distribution(outputs).parts
    # The first part of an aim is from -2 to 1, the second has one bound: its own units.
    center, half = torch.tensor([-0.5, 0.0]), torch.tensor([1.5, 1.0])
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(found["mean.aim"], (center + half * aim.mean[0]).detach(), **close)
    np.testing.assert_allclose(found["std.aim"], (half * aim.stddev[0]).detach(), **close)
    np.testing.assert_allclose(found["mean.whole"], (1 + 4 * whole.mean[0]).detach(), **close)
    logits = torch.from_numpy(found["logits.tool.0"])
    probs = torch.stack([logits[:2].softmax(0)[0], logits[2:].softmax(0)[2]])
    expected = tool.base_dist.probs[0]
    np.testing.assert_allclose(probs, [expected[0, 0].item(), expected[1, 2].item()], **close)
    for name, part in {"logits.tool.1": switches.base_dist, "logits.which": which}.items():
        logits = torch.from_numpy(found[name])
        probs = logits.sigmoid() if part is not which else logits.softmax(0)
        np.testing.assert_allclose(probs, part.probs[0].detach(), **close)


def test_the_file_says_what_it_holds(tmp_path):
    agent = rl2("transformer", reset_memory_every=2)(SIGHT, EVERYTHING)
    agent.export(tmp_path / "agent.onnx")
    runner = Runner(tmp_path / "agent.onnx")
    about = runner.about
    assert (about["agent"], about["tasks"], about["horizon"]) == ("RL2", "anything", 6)
    assert about["action_space"] == agent.interface.to_json()["action_space"]
    assert list(about["inputs"]) == [value.name for value in runner.graph.get_inputs()]
    assert list(about["inputs"])[:4] == [
        "observation.number", "observation.place", "last_action.aim", "last_action.tool.0"
    ]  # fmt: skip
    assert about["state"] == ["step", "memory_0", "episode"]
    assert about["inputs"]["memory_0"] == {"shape": [0, 2, 2, 4, 4], "dtype": "float32"}
    assert about["outputs"] == [value.name for value in runner.graph.get_outputs()]
    assert "std.whole" in about["outputs"]
    assert json.dumps(about).isascii()


@pytest.mark.parametrize("make", [DPT, MultiTask])
def test_what_cannot_be_exported_is_refused(make, tmp_path):
    agent = make(interface(BOX, BOX), seed=0)
    with pytest.raises(ValueError, match="cannot be exported as a graph; RL2, VariBAD, AD"):
        agent.export(tmp_path / "agent.onnx")
    with pytest.raises(ValueError, match=r"a file that ends in \.onnx, got"):
        maml(BOX, BOX).export(tmp_path / "agent.zip")
