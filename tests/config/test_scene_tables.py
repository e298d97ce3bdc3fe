"""Tables 4a, 4b, 11, 12 and detection: what is asked of segmentation, detection and depth, by how many seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from harness.config.datasets import DATASETS
from harness.config.errors import ConfigError
from harness.config.expand import Expansion, expand
from harness.config.files import profile_names
from harness.config.identity import plain
from harness.config.schema import Choice, Depth, Detection, Pretrain, Segmentation, Spec
from harness.config.structure import structure

Edit = Callable[[str, str, str], None]
RECORDS = {"segmentation": "mask", "detection": "boxes", "depth": "depth"}


def evaluations(expansion: Expansion, cell: str) -> list[str]:
    return [member.evaluation_key for member in expansion.members if member.cell == cell]


def test_the_segmentations_of_the_paper() -> None:
    """Protects Table 4a's protocol: five rates, 30,000 updates of 16 crops of 513; 2119 images choose; then all."""
    member = expand("4a", "imagenet", cell="byol_segmentation").members[0]
    tried = [one for one in member.candidates if isinstance(one, Segmentation)]
    np.testing.assert_allclose([one.learning_rate for one in tried], np.logspace(-3, -1, 5), rtol=2e-5)
    assert {(one.steps, one.batch, one.crop, one.weight_decay) for one in tried} == {(30_000, 16, 513, 1e-4)}
    assert {(one.scales, one.drops, one.data.train) for one in tried} == {((0.5, 2.0), (0.7, 0.9), "train")}
    assert isinstance(member.evaluation, Choice)
    assert (member.evaluation.retrain, member.evaluation.evaluation) == ("train+valid", "segmentation")
    assert DATASETS[member.evaluation.data.dataset].valid_images == 2119
    assert member.at_paper_scale


def test_the_detection_and_the_depths_of_the_paper() -> None:
    """Protects what is trained once: VOC 2007's trainval and all training frames, by the paper's numbers of updates."""
    detection = expand("4a", "imagenet", cell="byol_detection").members[0].evaluation
    assert isinstance(detection, Detection)
    assert [round(drop * detection.steps) for drop in detection.drops] == [1_000_000, 1_200_000]
    assert (detection.steps, detection.edges, detection.learning_rate) == (1_500_000, (480, 1024), 1e-3)
    assert not detection.frozen, "as the main text has it"
    assert DATASETS[detection.data.dataset].images(detection.data.train) == 5011
    depth = expand("4b", "imagenet", cell="byol").members[0].evaluation
    assert isinstance(depth, Depth)
    assert (depth.steps, depth.batch, depth.learning_rate, depth.weight_decay) == (7500, 256, 0.16, 5e-4)
    assert (depth.frame, depth.crop) == ((240, 320), (228, 304))
    assert DATASETS[depth.data.dataset].test_images == 654


def test_depths_of_the_labelled_frames_alone(edit: Edit) -> None:
    """Protects the other form of NYU depth: a word in one file, at every profile, trains other runs on it."""
    keys = {profile: evaluations(expand("4b", profile), "byol") for profile in profile_names()}
    edit("evaluations/depth_nyu.yaml", "nyu-depth", "nyu-depth-labelled")
    for profile, before in keys.items():
        expansion = expand("4b", profile)
        spec = expansion.members[0].evaluation
        assert isinstance(spec, Depth)
        twin = "-stand-in" if profile == "laptop" else ""
        assert spec.data.dataset == f"nyu-depth-labelled{twin}"
        assert not set(evaluations(expansion, "byol")) & set(before)


def test_seeds_of_evaluations() -> None:
    """Protects Table 4a's five seeds: of the segmentation of one pretraining, that of Table 3; one detection of it."""
    expansion = expand("4a", "imagenet")
    of_three = {member.cell: member.subject_key for member in expand("3", "imagenet").members}
    for method in ("byol", "simclr_repro"):
        cells = {f"{method}_segmentation": 5, f"{method}_detection": 1}
        members = [member for member in expansion.members if member.cell in cells]
        assert {member.subject_key for member in members} == {of_three[f"linear_{method}_pets"]}
        for cell, seeds in cells.items():
            assert len(set(evaluations(expansion, cell))) == seeds
            assert [member.seed for member in members if member.cell == cell] == list(range(seeds))
        seeds_of = {one.seed for member in members for one in member.candidates}
        assert seeds_of == set(range(5)), "each seed chooses among candidates of its own"
    assert [len(expand("4a", "imagenet", seeds).members) for seeds in (1, 2)] == [4, 6]


def test_how_many_runs_they_take() -> None:
    """Protects the plan: two pretrainings, and for each 25 candidates, 5 choices, a detection and a depth."""
    runs = [*expand("4a", "imagenet").runs().values(), *expand("4b", "imagenet").runs().values()]
    counted = Counter(spec.kind for spec in runs)
    assert counted == {"pretrain": 4, "segmentation": 50, "choice": 10, "detection": 2, "depth": 2}
    kinds = [spec.kind for spec in expand("4a", "imagenet").runs().values()]
    assert kinds.index("choice") > max(at for at, kind in enumerate(kinds) if kind == "segmentation")


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize(("short", "long"), [("4a", "11"), ("4b", "12")])
def test_the_longer_tables_share_their_runs(short: str, long: str, profile: str) -> None:
    """Protects GPU-hours: Tables 11 and 12 print Table 4's runs beside more that is quoted."""
    assert expand(short, profile).runs() == expand(long, profile).runs()


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_has_what_they_need(profile: str) -> None:
    """Protects the other profiles: masks, boxes and depths where these are asked for, at the paper's scale in one."""
    for table in ("4a", "4b", "detection"):
        for member in expand(table, profile).members:
            facts = DATASETS[member.evaluation.data.dataset]
            assert facts.record == RECORDS[member.evaluation.evaluation]
            assert facts.stand_in == (profile == "laptop")
            assert member.at_paper_scale == (profile == "imagenet")
            assert isinstance(member.subject, Pretrain)


def test_two_descriptions_are_two_runs() -> None:
    """Protects the extra table: frozen or not, and another schedule; the first row is Table 4a's."""
    rows = {member.cell: member for member in expand("detection", "imagenet").members}
    assert rows["finetuned"].evaluation_key == expand("4a", "imagenet", cell="byol_detection").members[0].evaluation_key
    assert len({member.evaluation_key for member in rows.values()}) == 3
    changed = {name: member.evaluation for name, member in rows.items()}
    assert all(isinstance(spec, Detection) for spec in changed.values())
    assert [spec.frozen for spec in changed.values()] == [False, True, False]  # type: ignore[union-attr]  # as above


@pytest.mark.parametrize(("table", "cell"), [("4a", "byol_segmentation"), ("4a", "byol_detection"), ("4b", "byol")])
def test_a_spec_is_read_as_it_was_written(table: str, cell: str) -> None:
    """Protects every worker: a choice's data may be of two forms, and which one it is, its keys say."""
    for spec in expand(table, "laptop", 1, cell).runs().values():
        assert structure(Spec, plain(spec)) == spec


MISTAKES = [
    ("segmentation_voc", "dataset: voc2012", "dataset: voc2007", "data.dataset: voc2007 has no mask for each image"),
    ("segmentation_voc", "train: train,", "train: train+valid,", "data.train: train.valid holds images of valid"),
    ("segmentation_voc", "[0.7, 0.9]", "[0.9, 0.7]", "drops: must be parts of the steps between 0 and 1"),
    ("segmentation_voc", "[0.7, 0.9]", "[0.7, 1.0]", "drops: must be parts of the steps between 0 and 1"),
    ("segmentation_voc", "[0.5, 2.0]", "[2.0, 0.5]", "scales: must be a range above 0, not 2.0 to 0.5"),
    ("segmentation_voc", "batch: 16", "batch: 1", "batch: must be at least 2, not 1: one image has no batch"),
    ("segmentation_voc", "crop: 513", "crop: 0", "crop: must be at least 1, not 0"),
    ("segmentation_voc", "3.1623e-2, 1.0e-1]", "1.0e-1, 1.0e-1]", "learning_rates: must name at least one, each once"),
    ("segmentation_voc", "flip: 0.5", "flip: 1.5", "flip: must lie between 0 and 1, not 1.5"),
    ("segmentation_voc", "steps: 30000", "steps: 0", "steps: must be at least 1, not 0"),
    ("detection_voc", "voc2007-boxes", "voc2007", "data.dataset: voc2007 has no boxes for each image; it holds labels"),
    ("detection_voc", "[480, 1024]", "[1024, 480]", "edges: must be a range above 0, not 1024 to 480"),
    ("detection_voc", "test_edge: 1024", "test_edge: 0", "test_edge: must be at least 1, not 0"),
    ("detection_voc", "[32, 64,", "[32, 32,", "anchors: must name at least one, each once and at least 1"),
    ("detection_voc", "batch: 1", "batch: 1\nsamples: 0", "samples: must be at least 1, not 0"),
    (
        "detection_voc",
        "batch: 1",
        "batch: 1\nwarmup_steps: -1",
        "warmup_steps: must lie between 0 and the 1500000 steps",
    ),
    ("detection_voc", "momentum: 0.9", "momentum: 1.0", "momentum: must lie between 0 and 1, not 1.0"),
    ("detection_voc", "learning_rate: 1.0e-3", "learning_rate: 0.0", "learning_rate: must be above 0, not 0.0"),
    ("depth_nyu", "nyu-depth", "imagenet", "data.dataset: imagenet has no depths for each image; it holds class"),
    ("depth_nyu", "[228, 304]", "[304, 228]", "crop: 304 by 228 does not fit into frames of 240 by 320"),
    ("depth_nyu", "hue: 0.2", "hue: 0.6", "hue: must lie between 0 and 0.5, not 0.6"),
    ("depth_nyu", "[0.5, 1.5]", "[0.0, 1.5]", "saturation: must be a range above 0, not 0.0 to 1.5"),
    ("depth_nyu", "kind: depth", "kind: depht", "kind: unknown kind of evaluation 'depht'; did you mean 'depth'"),
]
CELLS = {
    "segmentation_voc": ("4a", "byol_segmentation"),
    "detection_voc": ("4a", "byol_detection"),
    "depth_nyu": ("4b", "byol"),
}


@pytest.mark.parametrize(("name", "old", "new", "message"), MISTAKES)
def test_what_they_may_not_ask(edit: Edit, name: str, old: str, new: str, message: str) -> None:
    """Protects from sweeps that fail late: each mistake is told with its file and line."""
    edit(f"evaluations/{name}.yaml", old, new)
    table, cell = CELLS[name]
    with pytest.raises(ConfigError, match=rf"{name}\.yaml:\d+: .*{message}"):
        expand(table, "imagenet", None, cell)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  - {id: byol_segmentation}",
            "  - {id: byol_segmentation, evaluation: transfer_linear}",
            "evaluation 'transfer_linear' has no seed, and the table's seeds are its; leave out seeds_of",
        ),
        (
            "  - {id: byol_segmentation}",
            "  - {id: byol_segmentation, evaluation: none}",
            "evaluation 'none' has no seed, and the table's seeds are its",
        ),
        (
            "id: byol_detection, evaluation: detection_voc, seeds: 1",
            "id: byol_detection, evaluation: detection_voc, seeds: 6",
            "seeds: must be 1 to the table's 5, not 6",
        ),
        ("seeds_of: evaluation", "seeds_of: evaluations", "seeds_of: must be one of subject, evaluation"),
    ],
)
def test_seeds_that_nothing_has(edit: Edit, old: str, new: str, message: str) -> None:
    """Protects a mean of five numbers from being one number five times."""
    edit("tables/table4a.yaml", old, new)
    with pytest.raises(ConfigError, match=rf"table4a\.yaml:\d+: .*{message}"):
        expand("4a", "imagenet")


def test_seeds_of_subjects_are_the_rule(edit: Edit) -> None:
    """Protects every other table: without seeds_of the seeds tell pretrainings apart."""
    edit("tables/table4a.yaml", "seeds_of: evaluation\n", "")
    members = [member for member in expand("4a", "imagenet").members if member.cell == "byol_segmentation"]
    assert len({member.subject_key for member in members}) == 5
    assert {one.seed for member in members for one in member.candidates} == {0}
