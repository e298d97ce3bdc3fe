"""The order of a sweep, driven by hand: no Ray is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.config.expand import Expansion, expand
from harness.launch.plan import Plan, Planned, Status, needs, subject_of

pytest.importorskip("ray.tune")
from ray.tune.search import Searcher

from harness.launch import frontier
from harness.launch.frontier import Frontier
from harness.launch.share import Demand
from harness.launch.sweep import _finished

Planning = Callable[..., Plan]
ONE = Demand(workers=1, cpus=1, gpu=0.0)


class Tries:
    """Stands for the attempts of a sweep: runs that have no more, and those that were given up."""

    def __init__(self) -> None:
        self.no_more: set[str] = set()
        self.given_up: list[str] = []

    def spent(self, key: str) -> bool:
        return key in self.no_more

    def give_up(self, key: str) -> None:
        self.given_up.append(key)


class Tune:
    """What Tune asks of a searcher, one trial an attempt. A run that fails here has had its last."""

    def __init__(self, plan: Plan, finished: set[str], demand: Demand = ONE) -> None:
        self.on_disk: dict[str, Status] = {}
        self.living = {"node": {"CPU": float(len(plan.missing))}}
        self.tries, self.said = Tries(), list[str]()
        self.frontier = Frontier(
            plan.missing,
            finished,
            lambda run: self.on_disk[run.key],
            {run.key: demand for run in plan.missing},
            lambda: self.living,
            self.tries,  # type: ignore[arg-type]  # what the frontier asks of attempts
            self.said.append,
        )
        self.runs = {run.key: run for run in plan.runs}
        self.started: list[Planned] = []
        self.answers: list[dict[str, Any]] = []

    def ask(self) -> Any:
        """The next run, or what the frontier says instead of one."""
        answer = self.frontier.suggest(str(len(self.started)))
        if not isinstance(answer, dict):
            return answer
        self.answers.append(answer)
        self.started.append(self.runs[answer["key"]])
        return self.started[-1]

    def end(self, run: Planned, state: str | None) -> None:
        """The run has ended in a state; None is an error, its last attempt's."""
        if state is None:
            self.tries.no_more.add(run.key)
            self.on_disk[run.key] = "failed"
        self.end_attempt(run, state)

    def end_attempt(self, run: Planned, state: str | None) -> None:
        """Its trial has ended."""
        trial = str(len(self.started) - 1 - self.started[::-1].index(run))
        self.frontier.on_trial_complete(trial, {"state": state} if state else None, error=state is None)


@pytest.fixture
def tune(planned: Planning, two_cells: Expansion) -> Tune:
    """Two pretrainings, their evaluations and that of the untrained encoder, which is there from the start."""
    plan = planned(two_cells)
    return Tune(plan, {key for key, subject in plan.subjects.items() if subject.kind == "random"})


def test_evaluations_wait_for_what_they_measure(tune: Tune) -> None:
    """Every run is suggested once, none before its subject has ended well, and then the sweep is over."""
    done = set(tune.frontier._finished)
    while tune.ask() != Searcher.FINISHED:
        for run in tune.started:
            subject = subject_of(run.spec)
            assert subject is None or subject in done
        if tune.ask() is None:  # all the rest waits: the oldest one ends
            oldest = next(run for run in tune.started if run.key not in done)
            tune.end(oldest, "done")
            done.add(oldest.key)
        else:
            tune.end(tune.started[-1], "done")
            done.add(tune.started[-1].key)
    assert len({run.key for run in tune.started}) == len(tune.started) == 5
    assert (tune.frontier.failed, tune.frontier.skipped) == ([], [])


def test_ready_evaluations_do_not_wait_for_other_pretrainings(tune: Tune) -> None:
    """The untrained encoder's evaluation starts beside the pretrainings, byol's when byol is done."""
    first, second, untrained = tune.ask(), tune.ask(), tune.ask()
    assert [first.kind, second.kind, untrained.kind] == ["pretrain", "pretrain", "linear"]
    assert tune.ask() is None
    tune.end(first, "done")
    assert subject_of(tune.ask().spec) == first.key


def test_what_a_failed_run_leaves_is_skipped(tune: Tune) -> None:
    """Its evaluations never start; the others do; both are told at the end."""
    first, second, untrained = tune.ask(), tune.ask(), tune.ask()
    tune.end(first, None)
    tune.end(second, "done")
    evaluation = tune.ask()
    assert subject_of(evaluation.spec) == second.key
    tune.end(evaluation, "done")
    tune.end(untrained, "done")
    assert tune.ask() == Searcher.FINISHED
    assert tune.frontier.failed == [first]
    assert [subject_of(run.spec) for run in tune.frontier.skipped] == [first.key]


def test_a_diverged_run_fails_nothing(tune: Tune) -> None:
    """Divergence is a result: the run's evaluations are dropped, neither failed nor skipped."""
    first, second, untrained = tune.ask(), tune.ask(), tune.ask()
    tune.end(first, "diverged")
    for run in (second, untrained):
        tune.end(run, "done")
    tune.end(tune.ask(), "done")
    assert tune.ask() == Searcher.FINISHED
    assert len(tune.started) == 4
    assert (tune.frontier.failed, tune.frontier.skipped) == ([], [])


@pytest.fixture
def tuned(planned: Planning) -> Tune:
    """Table 8's row of BYOL at the laptop: a pretraining, two candidates and the choice among them."""
    return Tune(planned(expand("8", "laptop", seeds=1, cell="byol")), set())


def test_a_choice_waits_for_all_its_candidates(tuned: Tune) -> None:
    """One that diverged has ended too; the choice comes last, and nothing is skipped."""
    pretraining = tuned.ask()
    assert tuned.ask() is None
    tuned.end(pretraining, "done")
    first, second = tuned.ask(), tuned.ask()
    assert [run.kind for run in tuned.started] == ["pretrain", "finetune", "finetune"]
    tuned.end(second, "diverged")
    assert tuned.ask() is None
    tuned.end(first, "done")
    choice = tuned.ask()
    assert set(needs(choice.spec)) == {first.key, second.key}
    tuned.end(choice, "done")
    assert tuned.ask() == Searcher.FINISHED
    assert (tuned.frontier.failed, tuned.frontier.skipped) == ([], [])


def test_a_failed_candidate_leaves_no_choice(tuned: Tune) -> None:
    """A choice among the others alone would be another evaluation: it is skipped, and named."""
    tuned.end(tuned.ask(), "done")
    first, second = tuned.ask(), tuned.ask()
    tuned.end(first, None)
    tuned.end(second, "done")
    assert tuned.ask() == Searcher.FINISHED
    assert tuned.frontier.failed == [first]
    assert [run.kind for run in tuned.frontier.skipped] == ["choice"]


def test_of_a_diverged_subject_nothing_is_tried(tuned: Tune) -> None:
    """Candidates and choice have diverged with it: neither run, failed nor skipped."""
    tuned.end(tuned.ask(), "diverged")
    assert tuned.ask() == Searcher.FINISHED
    assert len(tuned.started) == 1
    assert (tuned.frontier.failed, tuned.frontier.skipped) == ([], [])


def test_subjects_of_earlier_sweeps_count(planned: Planning, two_cells: Expansion, write: Callable[..., Any]) -> None:
    """An evaluation whose subject was trained before starts at once."""
    write(two_cells.members[0].subject, "done")
    plan = planned(two_cells)
    tune = Tune(plan, {two_cells.members[0].subject_key})
    asked = [tune.ask(), tune.ask()]
    assert [run.kind for run in asked] == ["pretrain", "linear"]
    assert asked[1].key == two_cells.members[0].evaluation_key


def test_a_candidate_that_diverged_in_an_earlier_sweep_counts(planned: Planning, write: Callable[..., Any]) -> None:
    """The choice among the others is made, not skipped for ever; a diverged subject has nothing to evaluate."""
    cell = expand("8", "laptop", seeds=1, cell="byol")
    write(cell.members[0].subject, "done")
    write(cell.members[0].candidates[0], "diverged")
    write(cell.members[0].candidates[1], "done")
    plan = planned(cell)
    tune = Tune(plan, _finished(plan))
    choice = tune.ask()
    assert choice.kind == "choice"
    tune.end(choice, "done")
    assert tune.ask() == Searcher.FINISHED
    assert tune.frontier.skipped == []
    write(cell.members[0].subject, "diverged")
    assert cell.members[0].subject_key not in _finished(planned(cell))


def test_a_run_in_other_hands_is_waited_for(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another sweep works on is neither trained twice nor given up: it is finished when it is finished there."""
    monkeypatch.setattr(frontier, "LOOK_SECONDS", 0.0)
    theirs = tune.ask()
    tune.end(theirs, frontier.ELSEWHERE)
    tune.on_disk[theirs.key] = "running"
    while isinstance(ours := tune.ask(), Planned):
        assert subject_of(ours.spec) != theirs.key
        tune.end(ours, "done")
    assert ours is None, "their run is waited for"
    tune.on_disk[theirs.key] = "done"
    evaluation = tune.ask()
    assert subject_of(evaluation.spec) == theirs.key
    tune.end(evaluation, "done")
    assert tune.ask() == Searcher.FINISHED
    assert tune.frontier.failed == []


@pytest.mark.parametrize("left", ["interrupted", "missing"])
def test_a_run_that_others_dropped_is_taken_up(tune: Tune, monkeypatch: pytest.MonkeyPatch, left: Status) -> None:
    """A run whose owner died elsewhere comes back to this sweep."""
    monkeypatch.setattr(frontier, "LOOK_SECONDS", 0.0)
    theirs = tune.ask()
    tune.end(theirs, frontier.ELSEWHERE)
    tune.on_disk[theirs.key] = left
    assert tune.ask() == theirs


@pytest.fixture
def paired(planned: Planning) -> Tune:
    """Table 7's four evaluations of one encoder, which see two sequences of views; the encoder is there."""
    plan = planned(expand("7", "laptop", seeds=1))
    subject = next(run.key for run in plan.runs if run.kind == "pretrain")
    return Tune(replace(plan, runs=tuple(run for run in plan.runs if subject_of(run.spec) == subject)), {subject})


def test_companions_are_not_started_beside_each_other(paired: Tune) -> None:
    """Each pair goes as one trial that knows both; whatever of the second is left when it ends is taken up."""
    leaders = [paired.ask(), paired.ask()]
    assert paired.ask() is None, "two trials for four evaluations"
    told = [paired.answers[trial]["companions"] for trial in range(2)]
    assert all(len(keys) == 1 for keys in told)
    assert {leaders[0].key, leaders[1].key, told[0][0], told[1][0]} == set(paired.runs)
    paired.on_disk[told[0][0]] = "done"
    paired.end(leaders[0], "done")
    assert paired.ask() is None
    paired.on_disk[told[1][0]] = "missing"  # it could not go along
    paired.end(leaders[1], "done")
    left = paired.ask()
    assert left.key == told[1][0]
    paired.end(left, "done")
    assert paired.ask() == Searcher.FINISHED
    assert paired.frontier.failed == []


def test_a_companion_of_a_failed_run_is_tried_alone(paired: Tune) -> None:
    """What made the leader fail need not be the companion's fault: it gets a trial of its own, and one alone."""
    leader = paired.ask()
    (companion,) = paired.answers[0]["companions"]
    paired.on_disk[companion] = "failed"
    paired.end(leader, None)
    alone = paired.ask()
    assert alone.key == companion
    assert paired.answers[1]["companions"] == []
    paired.end(alone, None)
    assert paired.ask().key not in (leader.key, companion)
    assert [run.key for run in paired.frontier.failed] == [leader.key, companion]


def test_a_lost_worker_s_run_begins_again_when_its_lease_has_run_out(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead node's lease is fresh for a while: its run is neither begun against it, nor given up, nor counted."""
    monkeypatch.setattr(frontier, "LOOK_SECONDS", 0.0)
    first = tune.ask()
    tune.on_disk[first.key] = "running"
    tune.end_attempt(first, None)
    others = [tune.ask(), tune.ask()]
    assert first not in others
    for run in others:
        tune.end(run, "done")
    while isinstance(run := tune.ask(), Planned):
        assert subject_of(run.spec) != first.key
        tune.end(run, "done")
    assert run is None, "it is waited for"
    tune.on_disk[first.key] = "interrupted"
    assert tune.ask() == first
    tune.end_attempt(first, "done")
    assert subject_of(tune.ask().spec) == first.key
    assert (tune.frontier.failed, tune.tries.given_up) == ([], [])


@pytest.mark.parametrize("left", ["failed", "interrupted", "missing"])
def test_a_run_has_its_attempts_and_no_more(tune: Tune, monkeypatch: pytest.MonkeyPatch, left: Status) -> None:
    """However an attempt leaves the run, there is another until none is left; then it has failed, and says so."""
    monkeypatch.setattr(frontier, "LOOK_SECONDS", 0.0)
    first = tune.ask()
    tune.on_disk[first.key] = left
    for _ in range(3):
        tune.end_attempt(first, None)
        assert tune.ask() == first
    tune.end(first, None)
    tune.on_disk[first.key] = left
    assert tune.ask() != first
    assert tune.frontier.failed == [first]
    assert tune.tries.given_up == [first.key]


def test_what_another_sweep_gave_up_is_not_begun_again(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was in other hands all along has failed there with all its attempts."""
    monkeypatch.setattr(frontier, "LOOK_SECONDS", 0.0)
    theirs = tune.ask()
    tune.end_attempt(theirs, frontier.ELSEWHERE)
    tune.on_disk[theirs.key] = "failed"
    assert tune.ask() != theirs
    assert tune.frontier.failed == [theirs]


def test_a_run_that_no_living_node_has_room_for_waits_for_one(
    planned: Planning, two_cells: Expansion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once; what fits goes on; a new node is used."""
    monkeypatch.setattr(frontier, "NODES_SECONDS", 0.0)
    plan = planned(two_cells)
    tune = Tune(plan, {key for key, subject in plan.subjects.items() if subject.kind == "random"})
    pair = Demand(workers=2, cpus=1, gpu=0.0)
    large = next(run for run in plan.missing if run.kind == "pretrain")
    tune.frontier._demands[large.key] = pair
    tune.on_disk = dict.fromkeys(tune.runs, "running")
    tune.living = {"small": {"CPU": 1.0}}
    second = tune.ask()
    assert (second.kind, second == large) == ("pretrain", False), "it has passed the one that waits"
    tune.living = {"other": {"CPU": 1.0}}
    assert tune.ask() != large
    tune.living = {}
    assert tune.ask() is None
    assert len([line for line in tune.said if "2 workers of 1 CPU each" in line]) == 1
    assert "Ray's nodes: 1 gone, 1 new, 1 living" in tune.said
    tune.living = {"large": {"CPU": 2.0}}
    assert tune.ask() == large
    assert tune.answers[-1]["one_node"]


def test_nothing_begins_after_the_end_was_asked_for(tune: Tune) -> None:
    """The sweep is over when the last run has stopped; none of them has failed."""
    first, second = tune.ask(), tune.ask()
    tune.frontier.close()
    assert tune.ask() is None
    tune.end(first, frontier.STOPPED)
    assert tune.ask() is None
    tune.end(second, "done")
    assert tune.ask() == Searcher.FINISHED
    assert (tune.frontier.failed, tune.frontier.skipped) == ([], [])
