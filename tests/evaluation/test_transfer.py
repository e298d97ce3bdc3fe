"""Transfer's linear evaluation: scikit-learn's numbers by the paper's protocol."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from transfers import CPU, Told, encoder, evaluation

from harness.config.schema import Strengths
from harness.data.beton import Beton
from harness.data.dataset import Dataset
from harness.data.errors import DataError
from harness.data.prepare import open_dataset, prepare
from harness.data.records import ABSENT, DIFFICULT, PRESENT
from harness.evaluation import features as features_room
from harness.evaluation import metrics
from harness.evaluation.features import Features, FeatureStore, NotFiniteError
from harness.evaluation.linear import Scores
from harness.evaluation.logistic import Fit, fit_path
from harness.evaluation.logistic_sklearn import fit_path_sklearn
from harness.evaluation.sealed import Seal
from harness.evaluation.transfer import Solver, strengths_of
from harness.models.resnet import ResNet
from harness.training import loop
from harness.training.ranks import Ranks

pytestmark = pytest.mark.timeout(120)


def features_of(dataset: Dataset, folder: Path) -> dict[str, Features]:
    """Of all three splits."""
    store = FeatureStore(folder, encoder(), dataset, 16, CPU, Ranks.split(1), 1, pytest.fail)
    for split in ("train", "valid", "test"):
        store.keep(split)
    return {split: store.read(split) for split in ("train", "valid", "test")}


@pytest.mark.parametrize("solver", [fit_path, fit_path_sklearn], ids=["torch", "scikit-learn"])
def test_the_protocol_is_the_papers(solver: Solver, digits: Dataset, tmp_path: Path) -> None:
    """Table 3: lambda chosen on the held-out images, fitted again with them, tested once; by scikit-learn alone too.

    No feature is scaled, and a penalty of lambda / 2 on the weights alone beside the sum of losses is C = 1 / lambda.
    """
    seen = features_of(digits, tmp_path / "mine")
    arrays = {split: (each.values.double().numpy(), each.labels.numpy()) for split, each in seen.items()}

    def fitted(strength: float, *splits: str) -> LogisticRegression:
        values, labels = (np.concatenate([arrays[split][i] for split in splits]) for i in (0, 1))
        return LogisticRegression(C=1 / strength, tol=1e-5, max_iter=1000).fit(values, labels)

    strengths = [1e-2, 1e0, 1e2, 1e4]
    held_out = [100 * fitted(strength, "train").score(*arrays["valid"]) for strength in strengths]
    best = max(range(4), key=lambda i: (held_out[i], -i))
    expected = 100 * fitted(strengths[best], "train", "valid").score(*arrays["test"])
    told = Told()
    scores = evaluation(digits, tmp_path, solver, told).score(Seal(tmp_path))
    assert scores.selection["candidates"] == [f"lambda={strength:g}" for strength in strengths]
    assert scores.selection["scores"] == pytest.approx(held_out, abs=0.5)  # one of 200 images
    assert scores.selection["chosen"] == f"lambda={strengths[best]:g}"
    assert scores.selection["metric"] == "transfer.valid.top1"
    assert set(scores.results) == {"transfer.top1", "transfer.top5", "transfer.mean_per_class"}
    assert scores.results["transfer.top1"] == pytest.approx(expected, abs=0.2)  # one of 500
    assert scores.results["transfer.top1"] > 60
    path = [told.reports[done] for done in range(1, 5)]  # from the strongest
    assert [report["logistic.lambda"] for report in path] == pytest.approx(strengths[::-1])
    assert [report["logistic.valid.top1"] for report in path] == scores.selection["scores"][::-1]
    assert told.reports[5]["logistic.lambda"] == pytest.approx(strengths[best])
    assert [(one.done, one.total) for one in told.seen] == [(done, 5) for done in range(1, 6)]
    assert told.notes == []


def test_flags_are_scored_by_precision(voc: Dataset, tmp_path: Path) -> None:
    """VOC 2007 end to end: a binary problem a class without its difficult images, one lambda by the held-out mAP."""
    seen = features_of(voc, tmp_path / "mine")
    assert any((each.labels == DIFFICULT).any() for each in seen.values())

    def map11(strength: float, on: str, *splits: str) -> float:
        values = np.concatenate([seen[split].values.double().numpy() for split in splits])
        flags = np.concatenate([seen[split].labels.numpy() for split in splits])
        said = []
        for each in range(voc.classes):
            keep = flags[:, each] != DIFFICULT
            model = LogisticRegression(C=1 / strength, tol=1e-5, max_iter=1000)
            model.fit(values[keep], flags[keep, each] == PRESENT)
            said.append(model.decision_function(seen[on].values.double().numpy()))
        return metrics.map11(torch.from_numpy(np.stack(said, 1)), seen[on].labels)

    strengths = [1e-2, 1e0, 1e2, 1e4]
    held_out = [map11(strength, "valid", "train") for strength in strengths]
    best = max(range(4), key=lambda i: (held_out[i], -i))
    scores = evaluation(voc, tmp_path).score(Seal(tmp_path))
    assert scores.selection["metric"] == "transfer.valid.map11"
    assert scores.selection["scores"] == pytest.approx(held_out, rel=1e-3)
    assert scores.results == {"transfer.map11": pytest.approx(map11(strengths[best], "test", "train", "valid"), 1e-3)}
    assert set(seen["test"].labels.unique().tolist()) >= {PRESENT, ABSENT}


def test_the_strengths_of_the_paper() -> None:
    """45 from 1e-6 to 1e5, four to a decade; their names tell them apart."""
    strengths = strengths_of(Strengths(count=45, low=1e-6, high=1e5))
    np.testing.assert_allclose(strengths, 10.0 ** (np.arange(45) / 4 - 6), rtol=1e-12)
    assert (strengths[0], strengths[-1]) == (1e-6, 1e5)
    assert len({f"{strength:.6g}" for strength in strengths}) == 45


def test_the_test_split_is_closed_until_the_choice_is_on_the_disk(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even its features are computed before: a spy in the loader's place sees what is opened, and when."""
    opened: list[tuple[str, bool]] = []

    class Spy(features_room.Loader):
        def __init__(self, beton: Path, *rest: Any) -> None:
            opened.append((beton.name, (tmp_path / "selection.json").exists()))
            super().__init__(beton, *rest)

    monkeypatch.setattr(features_room, "Loader", Spy)
    evaluation(digits, tmp_path).score(Seal(tmp_path))
    assert opened == [("train.beton", False), ("train.beton", False), ("test.beton", True)]


def with_weights(*weights: float) -> Solver:
    """Fits whose weights are all one number, that of the strength's place among 0.01, 1, 100 and 10000."""

    def solver(values: Tensor, _labels: Tensor, classes: int, strengths: Sequence[float]) -> Iterator[Fit]:
        for strength in strengths:
            each = weights[round(np.log10(strength) / 2 + 1)]
            weight = torch.full((classes, values.shape[1]), each, dtype=torch.float64)
            yield Fit(strength, weight, torch.zeros(classes).double(), 1.0, 7, each != 2.0)

    return solver


def test_among_equals_the_weakest_is_chosen(digits: Dataset, tmp_path: Path) -> None:
    """The rule of every choice: the first of the list. What was not fitted to the end is told, in one line."""
    told = Told()
    scores = evaluation(digits, tmp_path, with_weights(1.0, 2.0, 2.0, 1.0), told).score(Seal(tmp_path))
    assert len(set(scores.selection["scores"])) == 1  # type: ignore[arg-type]  # a list
    assert scores.selection["chosen"] == "lambda=0.01"
    (note,) = told.notes
    assert note == "2 of 5 fits were not made to the end: lambda=100, lambda=1"


def test_a_fit_without_finite_weights_has_no_score(digits: Dataset, tmp_path: Path) -> None:
    """It is passed over; where no fit has any, the evaluation has diverged."""
    nan = float("nan")
    scores = evaluation(digits, tmp_path, with_weights(nan, 1.0, nan, 1.0)).score(Seal(tmp_path))
    assert scores.selection["chosen"] == "lambda=1"
    assert json.loads((tmp_path / "selection.json").read_text())["scores"][0] is None
    with pytest.raises(loop.Diverged, match="no fit has finite weights"):
        evaluation(digits, tmp_path / "all", with_weights(nan, nan, nan, nan)).score(Seal(tmp_path / "all"))
    assert Seal(tmp_path / "all").recorded() is None


def scored(net: ResNet, dataset: Dataset, folder: Path, solver: Solver) -> Scores:
    """With an encoder of one's own."""
    return evaluation(dataset, folder, solver, net=net).score(Seal(folder))


@pytest.mark.parametrize("solver", [fit_path, fit_path_sklearn], ids=["torch", "scikit-learn"])
def test_an_encoder_that_tells_nothing_gets_its_number(solver: Solver, digits: Dataset, tmp_path: Path) -> None:
    """A collapsed encoder, whose features are one constant, is an outcome: the most frequent class is named."""
    collapsed = encoder()
    for parameter in collapsed.parameters():
        parameter.data.zero_()
    labels = torch.cat([each.labels for each in (features_of(digits, tmp_path / "x")[s] for s in ("train", "valid"))])
    frequent = int(labels.bincount().argmax())
    test = features_of(digits, tmp_path / "x")["test"].labels
    found = scored(collapsed, digits, tmp_path, solver)
    assert found.results["transfer.top1"] == pytest.approx(100 * float((test == frequent).double().mean()))
    assert found.results["transfer.mean_per_class"] == pytest.approx(10.0)


def test_an_encoder_of_no_numbers_has_diverged(digits: Dataset, tmp_path: Path) -> None:
    """It counts as chance in its cell; nothing is chosen, and the test split is not looked at."""
    broken = encoder()
    broken.conv1.weight.data.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="features that are not finite"):
        scored(broken, digits, tmp_path, fit_path)
    assert not (tmp_path / "selection.json").exists()
    assert not list((tmp_path / "features").glob("digits-test-*"))


def without(dataset: Dataset, split: str, label: int, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The same dataset, without the images of a class in one split."""
    indices = Dataset.indices

    def fewer(self: Dataset, asked: str) -> np.ndarray:
        found = indices(self, asked)
        kept = Beton(self.beton(asked)).labels[found] != label
        return found[kept] if asked == split else found

    monkeypatch.setattr(Dataset, "indices", fewer)
    return dataset


@pytest.fixture
def flowers(data: Path) -> Dataset:
    """Scored by the mean over classes."""
    prepare("flowers-stand-in", data, lambda _: None)
    return open_dataset("flowers-stand-in", data)


def test_a_class_nobody_holds_out(flowers: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean is over the classes that are there, and the record says so; by images it is a number like another."""
    told = Told()
    scores = evaluation(without(flowers, "valid", 2, monkeypatch), tmp_path, told=told).score(Seal(tmp_path))
    assert told.notes == ["valid has no image of 1 of the 5 classes; mean_per_class averages over the others"]
    assert scores.selection["metric"] == "transfer.valid.mean_per_class"


def test_a_class_nobody_trains_on_is_refused(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images could never be named rightly: said before a feature is computed."""
    with pytest.raises(DataError, match=r"train has no image of 1 of the 10 classes \(3\)"):
        evaluation(without(digits, "train", 3, monkeypatch), tmp_path)
    assert not (tmp_path / "features").exists()


def rank_main(rank: int, port: int, folder: str, digits: Dataset) -> None:
    """One of two ranks: an evaluation, and one that diverges."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    seen: dict[str, Any] = {}
    for name, weight in (("whole", None), ("broken", torch.nan)):
        net = encoder()
        if weight is not None:
            net.conv1.weight.data.fill_(weight)
        passed: list[int] = []
        net.register_forward_hook(lambda _module, _given, out, passed=passed: passed.append(len(out)))
        told, here = Told(), Path(folder) / name
        try:
            seen[name] = evaluation(digits, here, fit_path, told, net=net).score(Seal(here)).results
        except loop.Diverged as end:
            seen[name] = str(end)
        seen[f"{name} images"] = sum(passed)
        seen[f"{name} reports"] = sorted(told.reports)
    torch.save(seen, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_find_what_one_finds(digits: Dataset, tmp_path: Path) -> None:
    """Protects numbers from the size of a cluster: half the images each, one choice, one end, on both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, str(tmp_path), digits), nprocs=2)
    alone = evaluation(digits, tmp_path / "alone", fit_path).score(Seal(tmp_path / "alone"))
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert first["whole"] == second["whole"]
    assert first["whole"] == pytest.approx(alone.results, abs=0.21)  # features differ in their last bits: one of 500
    assert first["broken"] == second["broken"]
    assert "features that are not finite" in first["broken"]
    assert [one["whole images"] for one in (first, second)] == [549 + 100 + 250, 548 + 100 + 250]
    assert (first["whole reports"], second["whole reports"]) == ([1, 2, 3, 4, 5], [])
