"""Everything a report shows, computed once, for the terminal's tables, the files and the page."""

from __future__ import annotations

from dataclasses import dataclass

from tau2_exp.config import ConfigError
from tau2_exp.report.collect import Collection
from tau2_exp.report.contrasts import Family, families, names
from tau2_exp.report.costs import Cost, costs
from tau2_exp.report.curves import Course, courses
from tau2_exp.report.failures import Failures, failures
from tau2_exp.report.treatments import Distance, distances
from tau2_exp.report.trials import Measured, Subject, Trial


@dataclass(frozen=True)
class Score:
    """One row of a trial: a subject's measures by their names."""

    trial: Trial
    subject: Subject
    measures: dict[str, Measured]


@dataclass(frozen=True)
class Findings:
    """Everything that a report shows of a collection."""

    collection: Collection
    scores: tuple[Score, ...]
    families: tuple[Family, ...]
    courses: tuple[Course, ...]
    costs: tuple[Cost, ...]
    distances: tuple[Distance, ...]

    @property
    def warnings(self) -> list[str]:
        """A sentence for each pair of arms that is one treatment."""
        return [distance.warning for distance in self.distances if distance.alike]

    def of(self, trial: Trial) -> list[Score]:
        """The scores of one trial."""
        return [score for score in self.scores if score.trial is trial]


def find(collection: Collection, against: str | None = None) -> Findings:
    """The findings of a collection. `against` names the baseline arm: see contrasts.families.

    Raises ConfigError where no arm has that name.
    """
    subjects = {s.label: s for trial in collection.trials for s in trial.subjects}
    if against and not any(names(against, subject) for subject in subjects.values()):
        raise ConfigError(f"--against {against!r} names no arm; there are: {', '.join(subjects) or 'none'}")
    return Findings(
        collection,
        tuple(_score(trial, subject) for trial in collection.trials for subject in trial.subjects),
        tuple(family for trial in collection.trials for family in families(trial, against)),
        tuple(courses(collection)),
        tuple(costs(collection)),
        tuple(distances(collection)),
    )


def find_failures(findings: Findings) -> list[tuple[Score, Failures]]:
    """The failures of each score with samples. Reads every sampled episode of every evaluation."""
    return [(score, failures(score.trial, score.subject)) for score in findings.scores if score.trial.samples]


def _score(trial: Trial, subject: Subject) -> Score:
    measured = {name: subject.measured(name) for name in trial.measures}
    return Score(trial, subject, {name: value for name, value in measured.items() if value is not None})
