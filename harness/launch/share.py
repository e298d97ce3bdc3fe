"""What each run asks of Ray: how many workers, and how much of a GPU each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.config.datasets import DATASETS
from harness.config.schema import Choice, Depth, Detection, Finetune, Linear, Logistic, Pretrain, Segmentation
from harness.launch.cost import encoder_costs
from harness.launch.plan import Plan, Planned
from harness.launch.site import Site

SHARE = 0.25  # of a GPU, for a small run
# An update of this much, some 50 ms of an A100, leaves a GPU idle for a good part, and keeps at most 4 GB for its
# backward pass: a quarter of the smallest GPU in use.
SMALL_UPDATE_FLOPS = 1e12
# A pass without gradient keeps next to nothing; reading the images and fitting on their features take the time.
SMALL_PASS_FLOPS = 3e12
PASS_IMAGES = 256  # as many as are scored at once


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Of one run. `gpu` is each worker's share of a GPU, 0 where the cluster has none."""

    workers: int
    cpus: int
    gpu: float


def demands(plan: Plan, site: Site, gpus: int) -> dict[str, Demand]:
    """What each missing run asks for, by key, on a cluster of so many GPUs.

    Several workers share pretrainings and large evaluations: one is enough for a small one, which is over before
    several have started. With GPUs, small runs on one worker take a part of one, and of the threads, the others a
    whole one. Where each run can have a GPU of its own, it has.
    """
    whole = Demand(workers=site.workers, cpus=site.threads, gpu=1.0 if gpus else 0.0)
    planned = {run.key: run for run in plan.runs}
    crowded = len(plan.missing) > gpus
    asked = {}
    for run in plan.missing:
        small = is_small(run, planned)
        if site.workers > 1 and (isinstance(run.spec, Pretrain) or not small):
            asked[run.key] = whole
        elif gpus:
            share = site.gpu_share or (SHARE if small and crowded else 1.0)
            asked[run.key] = Demand(workers=1, cpus=max(1, int(site.threads * share)), gpu=share)
        else:
            asked[run.key] = replace(whole, workers=1)
    return asked


def is_small(run: Planned, planned: Mapping[str, Planned]) -> bool:
    """Whether the run leaves room for others beside it on a GPU, by the work it gives the GPU at a time."""
    if isinstance(run.spec, Choice) and run.spec.retrain is not None:  # it trains as its candidates do
        return all(is_small(planned[key], planned) for key in run.spec.candidates)
    if isinstance(run.spec, Choice | Logistic):
        form = run.cost.form
        one_image = 2.0 * encoder_costs()[form.encoder].multiply_adds[form.image_size]
        return PASS_IMAGES * one_image < SMALL_PASS_FLOPS
    return run.cost.flops / updates(run) < SMALL_UPDATE_FLOPS


def updates(run: Planned) -> float:
    """How many a run that trains makes; the last of an epoch may count in part."""
    spec = run.spec
    if isinstance(spec, Pretrain):
        return spec.schedule.epochs * DATASETS[spec.data.dataset].images(spec.data.split) / spec.schedule.update_batch
    if isinstance(spec, Segmentation | Detection | Depth):
        return float(spec.steps)
    assert isinstance(spec, Linear | Finetune), "nothing else is trained by updates"
    if spec.epochs is None:
        return float(spec.steps or 0)
    return spec.epochs * DATASETS[spec.data.dataset].images(spec.data.train) / spec.batch
