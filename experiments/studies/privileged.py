"""What it is worth that training knows the task: a critic that sees it, a loss, a teacher."""

from metarl.agents.presets import find_preset
from metarl.experiments.studies.study import EvalSpec, Learner, Study

STEPS = {"games-7x7": 12_000_000}
"""Env steps where they differ from the preset's."""


def _learners(family: str) -> list[Learner]:
    steps = STEPS.get(family)
    network = find_preset("rl2", family).hyperparameters["policy_kwargs"]
    privileged = {"policy_kwargs": {**network, "privileged_critic": True}}
    oracle = Learner(
        "oracle, given the task",
        "multi-task",
        family,
        view={"oracle": True},
        total_timesteps=steps,
        note="it is the teacher of the others, whose env steps do not count those of the teacher",
    )

    def rl2(label: str, **options: object) -> Learner:
        return Learner(label, "rl2", family, total_timesteps=steps, **options)  # type: ignore[arg-type]

    return [
        rl2("RL²"),
        rl2("privileged critic", variant="privileged", hyperparameters=privileged),
        rl2("task prediction", variant="predicting", hyperparameters={"task_prediction_coef": 1.0}),
        rl2("imitation", variant="imitating", teacher=oracle),
        rl2(
            "half imitation",
            variant="half-imitating",
            teacher=oracle,
            hyperparameters={"teacher_share": 0.5},
        ),
        oracle,
    ]


_SLOPE, _MOTORS = _learners("half-cheetah-slope"), _learners("half-cheetah-motors")

STUDY = Study(
    name="privileged",
    title="What only training knows",
    question="Training knows the task, the policy must find it out. What pays: a critic that sees "
    "the task, a memory that must predict it, or a teacher that sees it?",
    learners={
        "bandit": _learners("bandit-100x10"),
        "mdp": _learners("tabular-mdp-10"),
        "games": _learners("games-7x7"),
        "slope": _SLOPE,
        "uphill": _SLOPE,
        "steep": _SLOPE,
        "motors": _MOTORS,
        "unseen-motor": _MOTORS,
        "navigation": _learners("navigation-sparse"),
    },
    evaluations=[
        EvalSpec("bandit", "bandit-100x10", num_tasks=1000, num_episodes=100),
        EvalSpec("mdp", "tabular-mdp-10", num_tasks=1000, num_episodes=10),
        EvalSpec("games", "games-7x7", num_tasks=1000, num_episodes=8),
        EvalSpec("slope", "half-cheetah-slope", num_tasks=100, num_episodes=4),
        EvalSpec("uphill", "half-cheetah-slope", split="uphill", num_tasks=100, num_episodes=4),
        EvalSpec("steep", "half-cheetah-slope", split="steep", num_tasks=100, num_episodes=4),
        EvalSpec("motors", "half-cheetah-motors", num_tasks=100, num_episodes=4),
        EvalSpec(
            "unseen-motor",
            "half-cheetah-motors",
            split="unseen_motor",
            num_tasks=100,
            num_episodes=4,
        ),
        EvalSpec("navigation", "navigation-sparse", num_tasks=200, num_episodes=5),
    ],
    seeds=(0, 1, 2),
    caveats=(
        "A teacher takes as many env steps as its student. They are listed with the trainings, and "
        "are in no figure.",
    ),
)
