"""What runs ask of a cluster's GPUs: by the paper's tables, and by what an encoder keeps in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.config.errors import ConfigError
from harness.config.expand import expand
from harness.config.schema import FrozenData, Logistic, Strengths
from harness.launch.cost import Cost, Form, encoder_costs
from harness.launch.plan import Plan, Planned
from harness.launch.share import SMALL_UPDATE_FLOPS, Demand, demands
from harness.launch.site import Site, site
from harness.models.resnet import ResNet

WHOLE = Demand(workers=1, cpus=8, gpu=1.0)
QUARTER = Demand(workers=1, cpus=2, gpu=0.25)


def here(workers: int = 1, gpu_share: float | None = None) -> Site:
    """A site with eight threads a worker."""
    nowhere = Path("/nowhere")
    return Site(home=nowhere, data=nowhere, tracking_uri="", workers=workers, threads=8, gpu_share=gpu_share)


@pytest.fixture
def by_kind(planned: Callable[..., Plan]) -> Callable[..., dict[str, set[Demand]]]:
    """What the runs of each kind ask for, of the tables of a profile."""

    def asked(profile: str, *tables: str, gpus: int = 4, place: Site | None = None) -> dict[str, set[Demand]]:
        plan = planned(*(expand(table, profile, seeds=1) for table in tables))
        found = demands(plan, place or here(), gpus)
        assert set(found) == {run.key for run in plan.missing}
        return {run.kind: {found[one.key] for one in plan.missing if one.kind == run.kind} for run in plan.missing}

    return asked


def test_without_gpus(by_kind: Callable[..., dict[str, set[Demand]]]) -> None:
    """On CPUs a run takes its threads, or those of all its workers; a small evaluation has one worker there too."""
    whole = Demand(workers=2, cpus=8, gpu=0.0)
    one = replace(whole, workers=1)
    assert by_kind("imagenet", "5b", gpus=0) == {"pretrain": {one}, "linear": {one}}
    assert by_kind("imagenet", "5b", gpus=0, place=here(workers=2)) == {"pretrain": {whole}, "linear": {whole}}
    assert by_kind("laptop", "5b", gpus=0, place=here(workers=2)) == {"pretrain": {whole}, "linear": {one}}


def test_at_the_papers_scale(by_kind: Callable[..., dict[str, set[Demand]]]) -> None:
    """ImageNet fills GPUs; RAFT's ResNet-18 on CIFAR-10 and a choice that trains nothing leave room for others."""
    assert by_kind("imagenet", "5b") == {"pretrain": {WHOLE}, "linear": {WHOLE}}
    assert by_kind("imagenet", "raft1") == {"pretrain": {QUARTER}, "linear": {QUARTER}}
    semi = by_kind("imagenet", "2a")
    assert (semi["finetune"], semi["choice"]) == ({WHOLE}, {QUARTER})


def test_the_laptop_s_runs_are_small(by_kind: Callable[..., dict[str, set[Demand]]]) -> None:
    """Digits never fill a GPU."""
    asked = by_kind("laptop", "5b", "2a", "16")
    assert set(asked) == {"pretrain", "linear", "finetune", "choice"}
    assert all(found == {QUARTER} for found in asked.values())


def test_several_workers_are_for_what_is_large(by_kind: Callable[..., dict[str, set[Demand]]]) -> None:
    """Pretrainings, as HARNESS_WORKERS says, and large evaluations; small ones need one worker."""
    eight = Demand(workers=8, cpus=8, gpu=1.0)
    semi = by_kind("imagenet", "2a", place=here(workers=8))
    assert semi == {"pretrain": {eight}, "finetune": {eight}, "choice": {QUARTER}}
    assert by_kind("imagenet", "raft1", place=here(workers=8)) == {"pretrain": {eight}, "linear": {QUARTER}}


def test_nobody_shares_where_there_is_enough(by_kind: Callable[..., dict[str, set[Demand]]]) -> None:
    """Ray fills one GPU before the next: packing few runs would leave GPUs idle."""
    assert by_kind("laptop", "5b", gpus=1000) == {"pretrain": {WHOLE}, "linear": {WHOLE}}


def test_a_person_may_decide(by_kind: Callable[..., dict[str, set[Demand]]]) -> None:
    """HARNESS_GPU_SHARE holds for every run on one worker, large ones and uncrowded GPUs included."""
    half = Demand(workers=1, cpus=4, gpu=0.5)
    assert by_kind("imagenet", "5b", gpus=1000, place=here(gpu_share=0.5)) == {"pretrain": {half}, "linear": {half}}
    assert by_kind("laptop", "5b", place=here(gpu_share=1.0)) == {"pretrain": {WHOLE}, "linear": {WHOLE}}


@pytest.mark.parametrize("text", ["0", "1.5", "-0.5", "half", "nan", "0.001"])
def test_a_share_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """One sentence says what may stand there; nothing set leaves it to the runs' sizes."""
    monkeypatch.delenv("HARNESS_GPU_SHARE", raising=False)
    assert site().gpu_share is None
    monkeypatch.setenv("HARNESS_GPU_SHARE", "0.5")
    assert site().gpu_share == 0.5
    monkeypatch.setenv("HARNESS_GPU_SHARE", text)
    with pytest.raises(ConfigError, match=f"^HARNESS_GPU_SHARE={text}: must be a number from 0.01 to 1"):
        site()


def frozen(encoder: str) -> Planned:
    """Transfer's linear evaluation of an encoder at 224 pixels."""
    data = FrozenData(
        dataset="food101",
        train="train",
        select="valid",
        test="test",
        image_size=224,
        version=1,
        split_id="",
        store="original",
        stand_in=False,
    )
    spec = Logistic(
        kind="logistic",
        evaluation="transfer",
        evaluation_version=1,
        subject="",
        data=data,
        strengths=Strengths(count=45, low=1e-6, high=1e5),
    )
    return Planned(encoder, spec, "missing", (), 0, Cost(Form("logistic", encoder, 224), 1e15, 1.0, 0))


def test_passes_without_gradient_share(planned: Callable[..., Plan]) -> None:
    """A ResNet-50 that is only looked through leaves room; one four times as wide needs the memory."""
    names = ("resnet18_x1", "resnet50_x1", "resnet50_x4", "resnet200_x2")
    plan = replace(planned(expand("5b", "imagenet", seeds=1)), runs=tuple(frozen(name) for name in names))
    assert demands(plan, here(), gpus=2) == {
        "resnet18_x1": QUARTER,
        "resnet50_x1": QUARTER,
        "resnet50_x4": WHOLE,
        "resnet200_x2": WHOLE,
    }


def test_a_choice_that_trains_takes_what_its_candidates_take(planned: Callable[..., Plan]) -> None:
    """Trained once more on train and validation, the chosen one is as large as it was."""
    plan = planned(expand("2a", "imagenet", seeds=1))
    (first, *_) = [run for run in plan.runs if run.kind == "choice"]
    again = replace(first, spec=replace(first.spec, retrain="train+valid"))
    assert demands(plan, here(), gpus=2)[first.key] == QUARTER
    changed = replace(plan, runs=tuple(again if run is first else run for run in plan.runs))
    assert demands(changed, here(), gpus=2)[first.key] == WHOLE


@pytest.mark.parametrize(
    ("encoder", "size"), [("resnet18", 96), ("resnet18", 224), ("resnet50", 96), ("resnet50", 224)]
)
def test_a_small_update_keeps_little_in_memory(encoder: str, size: int) -> None:
    """Of the papers' encoders ResNet-50 keeps most for its work: at the limit, under 4 GB for the backward pass.

    Supervised, for there each operation but a third is of a forward pass whose maps are kept.
    """
    with torch.device("meta"):
        network = ResNet(encoder, 1, "batch")
        images = torch.empty(2, 3, size, size)
    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.setdefault(id(one), one), lambda one: one):
        network(images)
    maps = {one.untyped_storage()._cdata: one for one in kept.values() if one.dim() == 4 and len(one) == len(images)}
    image_bytes = sum(4 * one.numel() for one in maps.values()) / len(images)
    forward = encoder_costs()[f"{encoder}_x1"].multiply_adds[size]
    images_of_update = SMALL_UPDATE_FLOPS / (3 * 2 * forward)
    assert 1e9 < images_of_update * image_bytes < 4e9
