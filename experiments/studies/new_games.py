"""Games with unseen rules; the positions change in every episode."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

FAMILY = "games-7x7"

_LEARNERS = [
    Learner("RL²", "rl2", FAMILY),
    Learner("multi-task", "multi-task", FAMILY),
    Learner(
        "oracle, given the rules",
        "rl2",
        FAMILY,
        view={"oracle": True},
        total_timesteps=12_000_000,
        note="trained for 12M env steps; it hardly improves after that",
    ),
    Learner("random actions", "random"),
]

STUDY = Study(
    name="new-games",
    question="A board game with unseen rules: does an agent infer them within a few episodes, and "
    "play well?",
    learners={"new-rules": _LEARNERS, "unseen-controls": _LEARNERS, "unseen-objects": _LEARNERS},
    evaluations=[
        EvalSpec("new-rules", FAMILY, num_tasks=1000, num_episodes=8),
        EvalSpec(
            "unseen-controls", FAMILY, split="unseen_controls", num_tasks=1000, num_episodes=8
        ),
        EvalSpec("unseen-objects", FAMILY, split="unseen_objects", num_tasks=1000, num_episodes=8),
    ],
    seeds=(0, 1, 2),
    answer="""\
Yes, if the controls are of a kind that training includes. In games with new rules RL² (three
seeds) earns {ratio of IQMs:~.1f} times as much in its second episode as in its first
(interquartile means of {new-rules/RL²/after:.2f} against {new-rules/RL²/first:.2f};
{ratio of means:~.1f} times in means over all games). In its eighth it earns
{share of the oracle:.0%} of the return of an oracle that observes the rules. A policy without
memory, trained on the same games for the same number of env steps (two seeds), earns
{new-rules/multi-task/last:.2f}, because what to do depends on rules that it cannot infer. New
kinds of objects (doors that lead anywhere) do not confuse RL². They do confuse the oracle, which
never observed doors in training. Neither copes with new controls: agents trained only on normal
controls, or with one pair of directions swapped, do hardly better than random actions on other
mappings.""",
    quantities={
        "ratio of IQMs": lambda q: [
            after / first
            for after, first in zip(q["new-rules/RL²/after"], q["new-rules/RL²/first"])
        ],
        "ratio of means": lambda q: [
            float(report.returns[:, 1].mean() / report.returns[:, 0].mean())
            for report in q.reports("new-rules/RL²")
        ],
        "share of the oracle": lambda q: [
            own / oracle
            for own, oracle in zip(q["new-rules/RL²/last"], q["new-rules/oracle, given/last"])
        ],
    },
    claims={
        "RL² finds the rules out": lambda q: min(q["new-rules/RL²/gain low"]) > 1.0,
        "it earns more than twice as much after one episode": lambda q: (
            min(q["ratio of means"]) > 2.0
        ),
        "from the second episode on it plays almost as well as an oracle": lambda q: (
            min(q["new-rules/RL²/after"]) > 0.75 * max(q["new-rules/oracle, given/after"])
        ),
        "a policy without memory earns almost nothing": lambda q: (
            max(q["new-rules/multi-task/last"]) < 0.3
        ),
        "doors confuse the oracle, and not RL²": lambda q: (
            min(q["unseen-objects/RL²/last"]) >= min(q["new-rules/RL²/last"])
            and max(q["unseen-objects/oracle, given/last"]) < min(q["unseen-objects/RL²/last"])
        ),
        "new controls are hardly better than chance": lambda q: all(
            max(q[f"unseen-controls/{learner}/last"]) < 0.1
            for learner in ("RL²", "multi-task", "oracle, given", "random")
        ),
    },
)
