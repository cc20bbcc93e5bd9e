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


_FAMILIES = (
    *("bandit-100x10", "tabular-mdp-10", "games-7x7"),
    *("half-cheetah-slope", "half-cheetah-motors", "navigation-sparse"),
)
_OF = {family: _learners(family) for family in _FAMILIES}

STUDY = Study(
    name="privileged",
    title="What only training knows",
    question="Training knows the task, the policy must find it out. What pays: a critic that sees "
    "the task, a memory that must predict it, or a teacher that sees it?",
    evaluations=[
        EvalSpec(name, family, _OF[family], split=split, num_tasks=tasks, num_episodes=episodes)
        for name, family, split, tasks, episodes in (
            ("bandit", "bandit-100x10", "held_out", 1000, 100),
            ("mdp", "tabular-mdp-10", "held_out", 1000, 10),
            ("games", "games-7x7", "held_out", 1000, 8),
            ("slope", "half-cheetah-slope", "held_out", 100, 4),
            ("uphill", "half-cheetah-slope", "uphill", 100, 4),
            ("steep", "half-cheetah-slope", "steep", 100, 4),
            ("motors", "half-cheetah-motors", "held_out", 100, 4),
            ("unseen-motor", "half-cheetah-motors", "unseen_motor", 100, 4),
            ("navigation", "navigation-sparse", "held_out", 200, 5),
        )
    ],
    seeds=(0, 1, 2),
    caveats=(
        "A teacher takes as many env steps as its student. They are listed with the trainings, and "
        "are in no figure.",
        "oracle, given the task: it is the teacher of the others, whose env steps do not count "
        "those of the teacher",
    ),
)
