"""The numbers in a study's text come from its records."""

from dataclasses import replace

import numpy as np
import pytest

from metarl import Report, Tasks
from metarl.evaluation.archive import write_archive
from metarl.experiments.studies.jobs import EvaluationJob, Places, jobs_of
from metarl.experiments.studies.quantities import MISSING, Quantities, Values, with_quantities
from metarl.experiments.studies.study import EvalSpec, Learner, Study

ANGLES = np.repeat(np.arange(4.0), 3)
STUDY = Study(
    "toy",
    "Who?",
    [
        EvalSpec(
            "slopes",
            "half-cheetah-slope",
            [Learner("A", "from-scratch"), Learner("A, longer", "from-scratch")],
            {"degrees": range(4)},
            num_tasks=3,
            num_episodes=2,
            groups={
                "flat, 0 to 1": lambda task: task["degrees"] < 2.0,
                "steep": lambda task: task["degrees"] > 1.0,
            },
        )
    ],
    quantities={
        "tasks": lambda q: [float(len(report.returns)) for report in q.reports("slopes/A")]
    },
)


@pytest.fixture
def places(tmp_path):
    """Records of two seeds of learner A: it earns its seed's number, 10 more where it is steep."""
    places = Places(tmp_path, tmp_path, tmp_path)
    for job in jobs_of(STUDY, places):
        assert isinstance(job, EvaluationJob)
        if job.learner.label != "A":
            continue
        first = 1.0 + job.seed + 10.0 * (ANGLES > 1.0)
        returns = np.stack([first, first + 0.25], axis=1)
        tasks = Tasks("half-cheetah-slope", {"degrees": ANGLES})
        report = Report(
            "A", "half-cheetah-slope", "slopes", returns, np.ones((12, 2), int), tasks, seed=2
        )
        header, arrays = report.to_archive()
        write_archive(job.record, {"training": None, "seed": job.seed, "report": header}, arrays)
    return places


def test_fields_become_a_number_for_each_seed(places):
    fill = Quantities(STUDY, places).fill
    assert fill("A earns {slopes/flat/A/first:.1f} first") == "A earns 1.0 and 2.0 first"
    assert fill("{slope/steep/A/last:.2f}, {slopes/steep/A/after:.2f}") == (
        "11.25 and 12.25, 11.25 and 12.25"
    )
    assert fill("{slopes/A/first:~.0f}") == "6 to 7"  # the interquartile mean of 1 and 11
    assert fill("{slopes/A/gain:~.1%} of {tasks:~.0f}") == "25.0% of 12"
    assert fill("{slopes/flat, 0 to\n1/A/gain:.2f}") == "0.25 and 0.25"
    assert fill("{slopes/A/gain low:.2f}") == "0.25 and 0.25"
    assert fill("{slopes/A, longer/first:.1f}") == MISSING


def test_values_are_shown_as_a_list_or_a_range():
    assert f"{Values((1.0, 2.0, 3.0)):.0f}" == "1, 2 and 3"
    assert f"{Values((0.99, 0.985)):~.1%}" == "98.5% to 99.0%"
    assert f"{Values((-0.01, -0.2, -60.0)):.0f}" == "0, 0 and -60"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("slopes/B/first", r"'B' must be, or be a part of, one of \['A', 'A, longer'\]"),
        ("s/flat/A/first", None),
        ("slopes/t/A/first", r"'t' must be, or be a part of, one of \['flat"),
        ("slopes/A/best", "'best' must be"),
        ("number", "'number' must be"),
    ],
)
def test_names_must_be_clear(places, field, message):
    quantities = Quantities(STUDY, places)
    if message is None:
        assert quantities[field] == (1.0, 2.0)
    else:
        with pytest.raises(ValueError, match=message):
            quantities.fill(f"{{{field}}}")


def test_a_claim_that_the_records_contradict_stops_the_page(places):
    study = replace(
        STUDY,
        answer="A earns {slopes/flat/A/first:.0f}.",
        caveats=["There are {tasks:~.0f}."],
        claims={
            "A gains": lambda q: min(q["slopes/A/gain low"]) > 0.0,
            "longer training helps": lambda q: q["slopes/longer/first"] > q["slopes/A/first"],
        },
    )
    filled = with_quantities(study, places)
    assert filled.answer == "A earns 1 and 2."
    assert filled.caveats == ("There are 12.",)
    claims = {"A gains half a point": lambda q: min(q["slopes/A/gain"]) > 0.4}
    with pytest.raises(ValueError, match="'toy': A gains half a point; correct its answer"):
        with_quantities(replace(study, claims=claims), places)
