"""Unseen games; the positions change in every episode."""

from metarl.experiments.studies.study import EvalSpec, Learner, Study

FAMILY, COMPOSITIONS = "games-7x7", "games-7x7-compositions"


def _learners(family: str) -> list[Learner]:
    return [
        Learner("RL²", "rl2", family),
        Learner("multi-task", "multi-task", family),
        Learner(
            "oracle, given the rules",
            "rl2",
            family,
            view={"oracle": True},
            total_timesteps=12_000_000,
        ),
        Learner("random actions", "random"),
    ]


_SPLITS = {
    "exchanged-symbols": (FAMILY, "held_out"),
    "unseen-controls": (FAMILY, "unseen_controls"),
    "unseen-objects": (FAMILY, "unseen_objects"),
    "seen-rules": (COMPOSITIONS, "held_out"),
    "new-combinations": (COMPOSITIONS, "new_combinations"),
    "new-rules": (COMPOSITIONS, "new_rules"),
}
_OF = {family: _learners(family) for family in (FAMILY, COMPOSITIONS)}

STUDY = Study(
    name="new-games",
    title="New games",
    question="An unseen board game: does an agent infer its rules within a few episodes, and play "
    "well?",
    evaluations=[
        EvalSpec(name, family, _OF[family], split=split, num_tasks=1000, num_episodes=8)
        for name, (family, split) in _SPLITS.items()
    ],
    seeds=(0, 1, 2),
    answer="""\
Yes, if the game is one of training with its symbols exchanged, and the controls are of a kind
that training includes. In such games RL² (three seeds) earns {ratio of IQMs:~.1f} times as much
in its second episode as in its first (interquartile means of {exchanged/RL²/after:.2f} against
{exchanged/RL²/first:.2f}; {ratio of means:~.1f} times in means over all games). In its eighth it
earns {share of the oracle:.0%} of the return of an oracle that observes the rules. A policy
without memory, trained on the same games for the same number of env steps (two seeds), earns
{exchanged/multi-task/last:.2f}, because what to do depends on rules that it cannot infer. New
kinds of objects (doors that lead anywhere) do not confuse RL². They do confuse the oracle, which
never observed doors in training. Neither copes with new controls: agents trained only on normal
controls, or with one pair of directions swapped, do hardly better than random actions on other
mappings.

Whether RL² infers rules that never met in training is not known from this: every held-out game
of `games-7x7` has a combination of roles and rules that training has with other symbols. Agents
trained on `games-7x7-compositions` never meet a trap and a key in one game, nor slides across
an open border. In the last of eight episodes RL² earns {seen-rules/RL²/last:.2f} in games of
seen rules, {new-combinations/RL²/last:.2f} with the new combination of roles, and
{new-rules/RL²/last:.2f} with the new combination of rules; the oracle earns {seen-rules/oracle,
given/last:.2f}, {new-combinations/oracle, given/last:.2f} and {new-rules/oracle,
given/last:.2f}.""",
    caveats=("oracle, given the rules: trained for 12M env steps; it hardly improves after that",),
    quantities={
        "ratio of IQMs": lambda q: [
            after / first
            for after, first in zip(q["exchanged/RL²/after"], q["exchanged/RL²/first"])
        ],
        "ratio of means": lambda q: [
            float(report.returns[:, 1].mean() / report.returns[:, 0].mean())
            for report in q.reports("exchanged/RL²")
        ],
        "share of the oracle": lambda q: [
            own / oracle
            for own, oracle in zip(q["exchanged/RL²/last"], q["exchanged/oracle, given/last"])
        ],
    },
    claims={
        "RL² finds out the rules of known games with other symbols": lambda q: (
            min(q["exchanged/RL²/gain low"]) > 1.0
        ),
        "it earns more than twice as much after one episode": lambda q: (
            min(q["ratio of means"]) > 2.0
        ),
        "from the second episode on it plays almost as well as an oracle": lambda q: (
            min(q["exchanged/RL²/after"]) > 0.75 * max(q["exchanged/oracle, given/after"])
        ),
        "a policy without memory earns almost nothing": lambda q: (
            max(q["exchanged/multi-task/last"]) < 0.3
        ),
        "doors confuse the oracle, and not RL²": lambda q: (
            min(q["unseen-objects/RL²/last"]) >= min(q["exchanged/RL²/last"])
            and max(q["unseen-objects/oracle, given/last"]) < min(q["unseen-objects/RL²/last"])
        ),
        "new controls are hardly better than chance": lambda q: all(
            max(q[f"unseen-controls/{learner}/last"]) < 0.1
            for learner in ("RL²", "multi-task", "oracle, given", "random")
        ),
    },
)
