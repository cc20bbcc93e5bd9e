"""Alchemy: what makes an agent learn within a trial, the network or the teacher."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

_TEACHER = "known-chemistry"
_TAUGHT = {"teacher_share": 0.4}
_LSTM = {"policy_kwargs": {"memory": "lstm", "hidden_size": 128, "head": [128]}}

_LEARNERS = [
    Learner(
        "RL², taught",
        "rl2",
        "alchemy",
        variant="taught",
        hyperparameters=_TAUGHT,
        teacher=_TEACHER,
    ),
    Learner(
        "RL² with an LSTM, taught",
        "rl2",
        "alchemy",
        variant="lstm-taught",
        hyperparameters={**_TAUGHT, **_LSTM},
        teacher=_TEACHER,
    ),
    Learner("RL²", "rl2", "alchemy"),
    Learner("RL² with an LSTM", "rl2", "alchemy", variant="lstm", hyperparameters=_LSTM),
    Learner("random potions", "random-potions"),
    Learner("exact belief", "exact-belief"),
    Learner("known chemistry", "known-chemistry"),
]

STUDY = Study(
    name="alchemy",
    title="Alchemy",
    question="Stones, potions and a chemistry that is new in each trial: what makes an agent learn "
    "within the trial, its network or a teacher that knows the chemistry?",
    evaluations=[
        EvalSpec(name, "alchemy", _LEARNERS, split=split, num_tasks=1000, num_episodes=10)
        for name, split in (("chemistries", "held_out"), ("unseen-graphs", "unseen_graphs"))
    ],
    seeds=(0, 1, 2),
)
