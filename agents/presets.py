"""Tuned hyperparameters for each agent and family. One place, plain data."""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metarl.distribution import TaskDistribution
from metarl.errors import InvalidValueError


@dataclass(frozen=True)
class Preset:
    """How to train an agent on the families whose names match a pattern.

    Attributes:
        agent: The agent's name on the command line.
        pattern: A shell pattern of names of families that come with metarl; the first match counts.
            ``*`` is for all families.
        total_timesteps: Env steps of training; None takes those of RL² on the family.
        hyperparameters: Keyword arguments of the agent; the rest keep their defaults.
        num_eval_tasks: Held-out tasks of the final evaluation.
        num_eval_episodes: Adaptation episodes of the final evaluation; None takes the family's.
    """

    agent: str
    pattern: str
    total_timesteps: int | None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    num_eval_tasks: int = 100
    num_eval_episodes: int | None = None


_SHORT_BANDITS = {
    "trials_per_iteration": 500,
    "trials_per_minibatch": 125,
    "learning_rate": 3e-3,
    "anneal": True,
    "gamma": 1.0,
    "gae_lambda": 0.5,
    "ent_coef": 0.01,
    "normalize_reward": True,
    "policy_kwargs": {"hidden_size": 64, "separate_critic": True},
}

# Trials that grow, and a critic of its own, reach in minutes what whole trials from the start and a
# shared critic do not reach at all. The entropy bonus keeps long trials from freezing too early.
_LONG_BANDITS = {
    **_SHORT_BANDITS,
    "trials_per_iteration": 512,
    "first_episodes_per_trial": 10,
    "trials_per_minibatch": 128,
    "ent_coef": 0.03,
}

# The memory recalls what was earned in like states, and a head makes the choice of it. Acting for
# the next reward alone earns 99 % of the optimum, so a short horizon loses little and spares noise.
_TABULAR_MDPS = {
    "trials_per_iteration": 128,
    "trials_per_minibatch": 16,
    "n_epochs": 2,
    "learning_rate": 2e-3,
    "anneal": True,
    "gamma": 0.5,
    "gae_lambda": 0.5,
    "ent_coef": 0.01,
    "normalize_reward": True,
    "policy_kwargs": {
        "hidden_size": 64,
        "memory": "episodic",
        "recall_encoder": [64],
        "head": [64],
        "separate_critic": True,
    },
}

# Ten episodes teach most of what longer trials need, at a part of the price.
_LONG_TABULAR_MDPS = {**_TABULAR_MDPS, "first_episodes_per_trial": 10}

# In 25 episodes, what is found out pays for longer than acting for the next reward alone values it.
_TABULAR_MDPS_OF_25_EPISODES = {
    **_LONG_TABULAR_MDPS,
    "trials_per_iteration": 192,
    "trials_per_minibatch": 24,
    "gamma": 0.9,
    "gae_lambda": 0.3,
    "endless_critic": True,
    "ent_coef": 0.02,
}

# The policy goes on learning from few episodes: small steps, and a round of five episodes each.
_RIVALS = {
    "num_envs": 128,
    "batch_size": 1600,
    "learning_rate": 1e-3,
    "anneal": True,
}

_PROMP = {
    "meta_batch_size": 20,
    "learn_inner_lr": "per_parameter",
    "inner_objective": "ratio",
    "outer": "ppo",
    "max_kl": 0.05,
    "learning_rate": 1e-3,
    "n_epochs": 5,
}

# The policy of Finn et al. 2017, whose first actions are small.
_ROBOT_POLICY = {"hidden_sizes": (100, 100), "activation": "relu", "output_gain": 0.1}

# Policy as in Finn et al. 2017, but the outer update of ProMP: on half-cheetah-dir-rllab it needs
# fewer iterations than TRPO. Learned inner rates, first actions that are small and vary less, and a
# GAE lambda close to 1 each gain some more.
_ROBOT_MAML = {
    **_PROMP,
    "halve_inner_lr": True,
    "gae_lambda": 0.985,
    "policy_kwargs": {**_ROBOT_POLICY, "log_std_init": -0.3},
}
# For families that nobody has tuned for (docs/results/runs.md): an update of 6 tasks and 10
# episodes comes seven times as often as one of 20 and 20, and its step is five times as long.
_NEW_MAML = {
    **_ROBOT_MAML,
    "meta_batch_size": 6,
    "episodes_per_adaptation": 10,
    "learning_rate": 5e-3,
    "n_epochs": 8,
}
_ROBOTS = ("half-cheetah", "hopper", "walker2d", "ant", "humanoid")

# An LSTM is quicker than a GRU on trials of hundreds of steps, and a critic of its own learns
# several times as much from the same steps as a shared one.
_LSTM = {"hidden_size": 64, "memory": "lstm", "separate_critic": True}
_CONTROL = {
    "anneal": True,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "normalize_observation": True,
    "normalize_reward": True,
    "policy_kwargs": _LSTM,
}

# Found on half-cheetah-slope, by what was learned in 3M env steps (docs/results/runs.md). Few
# trials before each update count most; then the critic, for the discount sees half an episode.
_ROBOT_RL2 = {
    **_CONTROL,
    "trials_per_iteration": 32,
    "trials_per_minibatch": 4,
    "n_epochs": 3,
    "learning_rate": 1e-3,
    "endless_critic": True,
    "policy_kwargs": {**_LSTM, "head": [64, 64]},
}

# These may fall, and a fall must not bring the next episode closer (docs/results/runs.md).
_FALLING_ROBOT_RL2 = {**_ROBOT_RL2, "discount_lost_time": True}

# For families that nobody has tuned for (docs/results/runs.md). The entropy bonus keeps what is the
# same in half of the tasks, as the way that a cart runs, from being all that is learned.
_NEW_RL2 = {
    **_FALLING_ROBOT_RL2,
    "n_epochs": 4,
    "ent_coef": 0.01,
}

# A beginning: an iteration of 128 trials of 1500 steps would take more than a minute.
_META_WORLD_RL2 = {
    **_CONTROL,
    "trials_per_iteration": 32,
    "trials_per_minibatch": 8,
    "n_epochs": 2,
    "learning_rate": 3e-3,
}

# Goals that must be searched for; found on gridnavi.
_SEARCH = {
    **_CONTROL,
    "trials_per_iteration": 128,
    "trials_per_minibatch": 32,
    "n_epochs": 4,
    "learning_rate": 5e-3,
    "gamma": 0.98,
    "ent_coef": 0.03,
}

# Of the first episodes in navigation-sparse, 0.05% meet the reward with the usual noise, 1% with
# this much. With half the entropy bonus, one of three seeds left out a part of the semicircle.
_SPARSE_SEARCH = {
    **_SEARCH,
    "trials_per_iteration": 512,
    "trials_per_minibatch": 64,
    "first_episodes_per_trial": 2,
    "gamma": 0.99,
    "ent_coef": 0.02,
    "policy_kwargs": {**_LSTM, "log_std_init": 0.5},
}

# Over the first million steps, one pass in many small steps learned as much
# from each env step as four passes in large steps, in a third of the time.
_GAMES_RL2 = {
    **_CONTROL,
    "trials_per_iteration": 256,
    "trials_per_minibatch": 16,
    "n_epochs": 1,
    "learning_rate": 4e-3,
    "gamma": 0.97,
    "gae_lambda": 0.9,
    "ent_coef": 0.02,
    "policy_kwargs": {**_LSTM, "hidden_size": 96},
}

# An answer changes nothing but its own reward, hence a discount of zero. The episodic memory
# compares pictures from the first step on; a GRU has to find out how to, and takes far longer.
_FEW_SHOT = {
    "trials_per_iteration": 32,
    "trials_per_minibatch": 8,
    "n_epochs": 2,
    "learning_rate": 2e-3,
    "anneal": True,
    "gamma": 0.0,
    "gae_lambda": 0.0,
    "ent_coef": 0.01,
    "policy_kwargs": {"hidden_size": 64, "memory": "episodic"},
}

PRESETS: tuple[Preset, ...] = (
    Preset("rl2", "bandit-10x*", 1_200_000, _SHORT_BANDITS, num_eval_tasks=1000),
    Preset("rl2", "bandit-?x*", 1_200_000, _SHORT_BANDITS, num_eval_tasks=1000),
    Preset("rl2", "bandit-100x5", 10_000_000, _LONG_BANDITS, num_eval_tasks=1000),
    Preset("rl2", "bandit-*", 15_000_000, _LONG_BANDITS, num_eval_tasks=1000),
    Preset("rl2", "gridnavi*", 3_000_000, _SEARCH, num_eval_tasks=420),
    Preset("rl2", "navigation-sparse", 10_000_000, _SPARSE_SEARCH, num_eval_tasks=400),
    Preset("rl2", "tabular-mdp-10", 6_000_000, _TABULAR_MDPS, num_eval_tasks=1000),
    Preset("rl2", "tabular-mdp-?", 6_000_000, _TABULAR_MDPS, num_eval_tasks=1000),
    Preset("rl2", "tabular-mdp-25", 18_000_000, _TABULAR_MDPS_OF_25_EPISODES, num_eval_tasks=1000),
    Preset("rl2", "tabular-mdp-*", 9_000_000, _LONG_TABULAR_MDPS, num_eval_tasks=1000),
    # Finn et al. 2017 and the authors' code: 20 tasks of 20 episodes, policy 100-100 ReLU, actions
    # stretched from [-1, 1] to the bounds. The inner step size is that of the text, 0.1; the code
    # has 0.5. A divergence of 0.02 instead of 0.01 needs half as many iterations, and the inner
    # gradient has less noise with a GAE lambda of 0.95 than with the paper's 1.
    Preset(
        "maml",
        "navigation-2d*",
        6_000_000,
        {
            "inner_lr": 0.1,
            "halve_inner_lr": True,
            "gae_lambda": 0.95,
            "max_kl": 0.02,
            "fisher_stride": 20,
            "policy_kwargs": {"hidden_sizes": (100, 100), "activation": "relu"},
        },
        num_eval_tasks=40,
        num_eval_episodes=80,
    ),
    # A step after 20 pulls. Bandits differ in nothing else: what is learned is how long it must be.
    Preset(
        "maml",
        "bandit-*",
        200_000,
        {
            **_PROMP,
            "meta_batch_size": 100,
            "inner_lr": 1.0,
            "learning_rate": 1e-2,
            "policy_kwargs": {"hidden_sizes": (32,)},
        },
        num_eval_tasks=1000,
        num_eval_episodes=80,
    ),
    # A short horizon and small noise: in ant-dir-rllab, gradients of two times 20 episodes of an
    # untrained policy agree at a cosine of 0.54, at 0.12 with a discount of 0.99, and at 0.03 with
    # that and twice the noise.
    Preset(
        "maml",
        "ant-*",
        12_000_000,
        {
            **_PROMP,
            "meta_batch_size": 6,
            "learning_rate": 5e-3,
            "n_epochs": 8,
            "halve_inner_lr": True,
            "gamma": 0.95,
            "gae_lambda": 0.95,
            "policy_kwargs": {**_ROBOT_POLICY, "log_std_init": -1.0},
        },
        num_eval_tasks=40,
        num_eval_episodes=80,
    ),
    Preset("maml", "*-rllab", 33_000_000, _ROBOT_MAML, num_eval_tasks=40, num_eval_episodes=80),
    # Half the tasks an update, and three times the step: on half-cheetah-climb the return after an
    # inner step was -36 after 4.5M env steps; as above, that took 12M.
    *(
        Preset(
            "maml",
            f"{robot}-*",
            12_000_000,
            {**_ROBOT_MAML, "meta_batch_size": 10, "learning_rate": 3e-3},
            num_eval_tasks=40,
            num_eval_episodes=80,
        )
        for robot in _ROBOTS
        if robot != "ant"
    ),
    Preset("maml", "*", None, _NEW_MAML, num_eval_tasks=40, num_eval_episodes=40),
    Preset("rl2", "half-cheetah-*", 12_000_000, _ROBOT_RL2, num_eval_tasks=2000),
    *(
        Preset("rl2", f"{robot}-*", 12_000_000, _FALLING_ROBOT_RL2, num_eval_tasks=2000)
        for robot in _ROBOTS
        if robot != "half-cheetah"
    ),
    Preset("multi-task", "*", None, _RIVALS, num_eval_tasks=400),
    Preset("fine-tune", "*", None, _RIVALS, num_eval_tasks=40, num_eval_episodes=40),
    Preset("from-scratch", "*", 1, num_eval_tasks=40, num_eval_episodes=40),
    Preset("rl2", "games-*", 60_000_000, _GAMES_RL2, num_eval_tasks=1000),
    Preset("rl2", "ml1-*", 4_000_000, _META_WORLD_RL2, num_eval_tasks=50),
    Preset("rl2", "ml10", 4_000_000, _META_WORLD_RL2, num_eval_tasks=250),
    Preset("rl2", "glyphs-*", 1_000_000, _FEW_SHOT, num_eval_tasks=1000),
    Preset("rl2", "image-folder:*", 1_000_000, _FEW_SHOT, num_eval_tasks=400),
    # What a new family starts from; found on those of experiments/classic_control.py.
    Preset("rl2", "*", 1_200_000, _NEW_RL2, num_eval_tasks=400),
)


def find_preset(agent: str, family: TaskDistribution | str) -> Preset:
    """Return the first preset that matches.

    Args:
        agent: The agent's name on the command line.
        family: The family, or its name on the command line. Patterns are of names of families that
            come with metarl: any other family, whatever its name, gets the preset ``*``.

    Raises:
        ValueError: If the agent has none for such a family.
    """
    if isinstance(family, TaskDistribution):
        name, built_in = family.name, family.built_in
    else:  # module:attribute is the user's own
        name, built_in = family, re.match(r"[\w.]+:", family) is None
    for preset in PRESETS:
        matches = fnmatch.fnmatchcase(name if built_in else "", preset.pattern)
        if preset.agent == agent and matches:
            if preset.total_timesteps is None:
                same = find_preset("rl2", family).total_timesteps
                return replace(preset, total_timesteps=same)
            return preset
    raise InvalidValueError(f"there is no preset of {agent!r} for {name!r}; pass --total-timesteps")
