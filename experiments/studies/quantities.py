"""The numbers in a study's text, read from its records when the page is made.

A text is a template: ``{EVALUATION/GROUP/LEARNER/WHAT:FORMAT}``; the group is left out where all
tasks are one. A name may be shortened to a part that only it has. ``WHAT`` is ``first``, ``after``
(one round of episodes), ``last`` or ``gain`` (last minus first); ``gain low`` and ``gain high`` are
the ends of its interval. With one number for each seed, ::

    RL² earns {climb/trained/RL²/first:.0f} points in its first episode

becomes "RL² earns 972 and 918 points". Seeds without a record are left out; without any, the
field becomes "*not trained yet*". A ``~`` before the format shows the range, as in "69% to
84%". A field without slashes is a name in :attr:`Study.quantities`.
"""

import contextlib
import json
import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from metarl import Report
from metarl.errors import InvalidValueError
from metarl.evaluation.archive import SUFFIX, read_archive
from metarl.evaluation.statistics import Estimate
from metarl.experiments.studies.jobs import Places, load_reports
from metarl.experiments.studies.study import Learner, Study

T = TypeVar("T")

MISSING = "*not trained yet*"
"""What is shown instead of a quantity without records."""


class MissingRecordError(LookupError):
    """A record of a quantity is not there."""


class Values(tuple[float, ...]):
    """One number for each seed, shown as "1, 2 and 3"."""

    def __format__(self, spec: str) -> str:
        if spec.startswith("~"):
            return " to ".join(
                dict.fromkeys(_shown(end, spec[1:]) for end in (min(self), max(self)))
            )
        *others, last = (_shown(value, spec) for value in self)
        return f"{', '.join(others)} and {last}" if others else last


def _shown(value: float, spec: str) -> str:
    text = format(value, spec)
    return text.lstrip("-") if not text.strip("-0.%") else text  # no "-0"


class Quantities(string.Formatter):
    """The quantities of a study, read when they are asked for.

    Args:
        study: The study.
        places: Where its records are.
    """

    def __init__(self, study: Study, places: Places):
        self._study, self._places = study, places
        self._loaded: dict[str, dict[Learner, list[tuple[int, Report]]]] = {}
        self._ends: dict[str, list[Mapping[str, Estimate]]] = {}

    def __getitem__(self, name: str) -> Values:
        """Return a quantity; see the module.

        Raises:
            MissingRecordError: If a record is missing.
            ValueError: If there is no such quantity, or several.
        """
        if "/" not in name:
            return Values(_named(name, self._study.quantities)(self))
        *path, what = name.split("/")
        what, _, end = what.partition(" ")
        learner = "/".join(path)
        if learner not in self._ends:
            self._ends[learner] = [
                {"after": report.at_round(1), **report.ends()._asdict()}
                for report in self.reports(learner)
            ]
        return Values(getattr(_named(what, ends), end or "value") for ends in self._ends[learner])

    def reports(self, path: str) -> list[Report]:
        """Return the reports of a learner, one for each seed.

        Args:
            path: ``EVALUATION/GROUP/LEARNER``, or ``EVALUATION/LEARNER`` for all tasks.

        Raises:
            MissingRecordError: If a record is missing.
            ValueError: If there is no such learner, or several.
        """
        name, *group, label = path.split("/")
        evaluation = _named(name, {each.name: each for each in self._study.evaluations})
        if evaluation.name not in self._loaded:
            self._loaded[evaluation.name] = load_reports(self._study, evaluation, self._places)
        found = self._loaded[evaluation.name]
        learner = _named(label, {each.label: each for each in found})
        if not found[learner]:
            raise MissingRecordError(path)
        reports = [report for _, report in found[learner]]
        for name in group:
            of_group = _named(name, evaluation.groups)
            reports = [each.select(of_group(each.tasks.columns)) for each in reports]
        return reports

    def record(self, path: str) -> Report:
        """Return the report in a record that belongs to no study.

        Args:
            path: The file in the folder of results, without its suffix.

        Raises:
            MissingRecordError: If it is missing.
        """
        header, arrays = read_archive(self._file(f"{path}{SUFFIX}"))
        return Report.from_archive(header.get("report", header), arrays)

    def json(self, path: str) -> Any:
        """Return the content of an early record, which is a JSON file.

        Args:
            path: As in :meth:`record`.

        Raises:
            MissingRecordError: If it is missing.
        """
        return json.loads(self._file(f"{path}.json").read_text())

    def _file(self, name: str) -> Path:
        file = self._places.results / name
        if not file.is_file():
            raise MissingRecordError(name)
        return file

    def fill(self, template: str) -> str:
        """Return a text with the quantities in it."""
        return self.vformat(template, (), {})

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        try:
            return self[" ".join(field_name.split())], field_name  # a line may break in it
        except MissingRecordError:
            return _Missing(), field_name

    def check(self) -> None:
        """Raise unless the records bear out what the study's text claims.

        Claims whose records are missing are not checked.
        """
        for claim, holds in self._study.claims.items():
            with contextlib.suppress(MissingRecordError):
                if not holds(self):
                    raise InvalidValueError(
                        f"the records contradict the text of the study {self._study.name!r}: "
                        f"{claim}; correct its answer, and this claim"
                    )


def with_quantities(study: Study, places: Places) -> Study:
    """Return a study whose text has its quantities filled in.

    Raises:
        ValueError: If the records contradict one of its claims.
    """
    quantities = Quantities(study, places)
    quantities.check()
    caveats = tuple(map(quantities.fill, study.caveats))
    return replace(study, answer=quantities.fill(study.answer), caveats=caveats)


class _Missing:
    def __format__(self, spec: str) -> str:
        return MISSING


def _named(name: str, named: Mapping[str, T]) -> T:
    """Return what has a name, or the only one with it in its name."""
    found = [name] if name in named else [each for each in named if name in each]
    if len(found) != 1:
        raise InvalidValueError(f"{name!r} must be, or be a part of, one of {list(named)}")
    return named[found[0]]
