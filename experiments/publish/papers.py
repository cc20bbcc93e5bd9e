"""Published numbers, to compare results with."""

RL2_BANDITS = {  # Duan et al. 2016, table 1: mean total reward, the best of 5 seeds
    "bandit-10x5": 6.7,
    "bandit-10x10": 6.7,
    "bandit-10x50": 6.8,
    "bandit-100x5": 78.7,
    "bandit-100x10": 83.5,
    "bandit-100x50": 84.9,
    "bandit-500x5": 401.6,
    "bandit-500x10": 432.5,
    "bandit-500x50": 438.9,
}

RL2_MDPS = {  # Duan et al. 2016, table 2: mean total reward, the best of 5 seeds
    "tabular-mdp-10": 156.2,
    "tabular-mdp-25": 445.7,
    "tabular-mdp-50": 936.1,
    "tabular-mdp-75": 1428.8,
    "tabular-mdp-100": 1913.7,
}

RL2_ROBOTS = {  # for each family: the source, its env steps, and the mean return of an episode
    "half-cheetah-dir": ("Beck et al. 2022, 75M env steps", "2104 ± 87"),
}

FIRST_TIES = ", first-arm ties"
"""How greedy strategies that pull the first of several equal arms are called.

The paper does not say how greedy breaks ties; its figures fit "the first arm" (see
:class:`metarl.agents.classical.bandits.Greedy`).
"""

PRIOR_MEAN_0 = ", prior mean 0"
"""How learners of MDPs that expect rewards around 0, instead of the true 1, are called.

The paper does not say what they expect; its figures fit 0 better.
"""

# Duan et al. 2016, table 1, for (pulls, arms): mean total reward over 1000 tasks, rounded to 0.1.
_CLASSICAL_LEARNERS = (
    "random",
    "Gittins index",
    "Thompson sampling",
    "UCB1",
    "epsilon-greedy" + FIRST_TIES,
    "greedy" + FIRST_TIES,
)
CLASSICAL_BANDITS = {
    (n, k): dict(zip(_CLASSICAL_LEARNERS, scores))
    for n, k, *scores in (
        (10, 5, 5.0, 6.6, 5.7, 6.7, 6.6, 6.6),
        (10, 10, 5.0, 6.6, 5.5, 6.7, 6.6, 6.6),
        (10, 50, 5.1, 6.5, 5.2, 6.6, 6.5, 6.5),
        (100, 5, 49.9, 78.3, 74.7, 78.0, 75.4, 74.8),
        (100, 10, 49.9, 82.8, 76.7, 82.4, 77.4, 77.1),
        (100, 50, 49.8, 85.2, 64.5, 84.3, 78.3, 78.0),
        (500, 5, 249.8, 405.8, 402.0, 405.8, 388.2, 380.6),
        (500, 10, 249.0, 437.8, 429.5, 437.1, 408.0, 395.0),
        (500, 50, 249.6, 463.7, 427.2, 457.6, 413.6, 402.8),
    )
}

# The same, table 2, for episodes: mean total reward over 1000 random tabular MDPs. The optimum is
# not of the paper, but of a simulation of 20,000 MDPs: 21.84 +- 0.02 an episode.
_MDP_LEARNERS = ("random", "PSRL", "OPSRL", "UCRL2", "epsilon-greedy", "known MDP (oracle)")
CLASSICAL_MDPS = {
    n: dict(zip(_MDP_LEARNERS, scores))
    for n, *scores in (
        (10, 100.1, 138.1, 144.1, 146.6, 132.8, 218.4),
        (25, 250.2, 408.8, 425.2, 424.1, 377.3, 546.0),
        (50, 499.7, 904.4, 930.7, 918.9, 823.3, 1092.0),
        (75, 749.9, 1417.1, 1449.2, 1427.6, 1293.9, 1638.0),
        (100, 999.4, 1939.5, 1973.9, 1942.1, 1778.2, 2184.0),
    )
}

# Finn et al. 2017: for each family and learner the return after 0, 1, 2, ... inner steps.
MAML: dict[str, dict[str, tuple[float, ...]]] = {
    "navigation-2d": {
        "MAML": (-40.4, -11.7, -3.3, -3.2),
        "random": (-82.7, -58.0, -53.8, -46.8),
        "oracle": (-2.3,),
    },
    "half-cheetah-vel-rllab": {
        "MAML": (-129.5, -78.6, -66.6, -60.8),
        "pretrained": (-158.0, -135.4, -128.5, -133.6),
        "oracle": (-54.5,),
    },
    "half-cheetah-dir-rllab": {
        "MAML": (-50.7, 293.2, 313.5, 315.7),
        "pretrained": (-43.0, -24.8, -12.9, 19.6),
        "oracle": (442.7,),
    },
    "ant-vel-rllab": {"MAML": (30.6, 96.7, 100.1, 101.4), "oracle": (107.9,)},
    "ant-dir-rllab": {"MAML": (8.7, 499.2, 500.7, 499.1), "oracle": (524.8,)},
}
