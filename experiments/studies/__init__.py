"""Studies: claims, tested by one engine. ``metarl study NAME`` runs one.

Each study has a file that declares its question and its matrix of trainings and evaluations, as
data. ``study.py`` defines these, ``jobs.py`` does one of them, ``engine.py`` all that are missing,
and ``results.py`` shows the results.
"""

import importlib
from dataclasses import replace

from metarl.envs.custom.loading import load_attribute
from metarl.errors import InvalidTypeError, check_names
from metarl.experiments.studies.study import Study

STUDIES = {
    "flat-to-uphill": "flat_to_uphill",
    "broken-robot": "broken_robot",
    "new-games": "new_games",
    "few-shot": "few_shot",
    "more-tasks": "more_tasks",
    "maml": "maml",
    "privileged": "privileged",
    "memories": "memories",
    "in-context": "in_context",
    "hills": "hills",
    "alchemy": "alchemy",
    "new-families": "new_families",
    "few-steps": "few_steps",
}
"""The module of each study; its attribute ``STUDY`` is the study."""


def find_study(name: str) -> Study:
    """Return the study of that name, or a user's own as ``module:attribute``.

    Raises:
        TypeError: If the named object is no study.
        ValueError: If there is no such study.
    """
    if ":" in name:
        study = load_attribute(name)
    else:
        check_names([name], STUDIES, "study")
        study = importlib.import_module(f"{__name__}.{STUDIES[name]}").STUDY
    if not isinstance(study, Study):
        raise InvalidTypeError(f"{name!r} must be a Study, got {study!r:.50}")
    return replace(study, source=name)


def list_studies() -> str:
    """Return the names of all studies, each with its question."""
    return "\n".join(f"{name}: {find_study(name).question}" for name in STUDIES)
