"""From a file to a run that evaluations can measure, and from a run to a file that others can load."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.transforms.v2 import functional as F

from harness.config.datasets import IMAGENET_MEAN, IMAGENET_STD
from harness.config.errors import ConfigError
from harness.config.expand import expand
from harness.config.identity import run_key
from harness.config.schema import Imported, Linear, Pretrain, RandomEncoder
from harness.config.structure import structure
from harness.launch.cost import Scale
from harness.launch.encoder import encoder_of
from harness.launch.exchange import export_encoder, import_encoder
from harness.launch.housekeeping import rubbish
from harness.launch.machines import machine_named
from harness.launch.place import Place
from harness.launch.plan import make_plan
from harness.launch.site import Site
from harness.launch.specs import read_spec, write_spec
from harness.launch.sweep import check_imported
from harness.launch.task import execute
from harness.models.resnet import ResNet
from harness.reporting.aggregate import build_table
from harness.reporting.collect import collect
from harness.reporting.footer import footer
from harness.reporting.layout import Layout
from harness.tracking.record import Record, Runs
from harness.tracking.store import MemoryStore

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoints"
Tiny = tuple[Pretrain, Linear]


@pytest.fixture
def here(runs: Runs, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose checkout is empty."""
    (tmp_path / "checkout" / "experiments" / "recipes").mkdir(parents=True)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path / "checkout"))
    monkeypatch.chdir(tmp_path)
    return Site(home=runs.path.parent, data=data, tracking_uri="")


@pytest.fixture
def imported(here: Site) -> Callable[..., tuple[str, list[str]]]:
    """Import a file; returns the key and what was said."""

    def run(file: Path, name: str = "theirs") -> tuple[str, list[str]]:
        said: list[str] = []
        assert import_encoder(file, name, here, said.append) == 0
        described = yaml.safe_load((Path("checkout/experiments/imported") / f"{name}.yaml").read_text())
        described.pop("source")
        return run_key(structure(Imported, {"kind": "imported", **described})), said

    return run


def silent(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def exported(here: Site) -> Callable[..., Path]:
    """Export a run into a file."""

    def run(key: str, form: str, out: Path) -> Path:
        assert export_encoder(key, form, out, here, silent) == 0
        return out

    return run


def test_an_import_is_a_finished_run(runs: Runs, imported: Callable[..., tuple[str, list[str]]]) -> None:
    """Protects the whole way in: key, spec, record with its source, and an encoder that embeds as the release's did."""
    file = GOLDEN / "byol_small_checkpoint.pkl"
    key, said = imported(file)
    record, spec = runs.read(key), read_spec(runs, key)
    assert isinstance(spec, Imported)
    assert run_key(spec) == key
    assert (spec.encoder, spec.padding) == ("bottleneck-64-2x4-2x8-2x16-2x32", "same")
    assert record is not None
    assert (record.state, record.kind, record.ended_unix_s is not None) == ("done", "imported", True)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.environment == {"imported": {"file": file.name, "origin": "haiku", "sha256": sha256}}
    assert key in said[0]
    truth = np.load(GOLDEN / "byol_small_checkpoint_io.npz")
    with torch.no_grad():
        got = encoder_of(runs, key).eval()(torch.from_numpy(truth["inputs_nhwc"]).permute(0, 3, 1, 2))
    torch.testing.assert_close(got, torch.from_numpy(truth["embedding"]), rtol=1e-4, atol=1e-4)


def test_a_tensorflow_checkpoint_is_one_run(
    runs: Runs,
    here: Site,
    imported: Callable[..., tuple[str, list[str]]],
    exported: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Protects SimCLR's way in: by index, beginning or folder one run, which normalised images embed as TensorFlow's
    network does plain ones; and its way out, which keeps what no tensor says.
    """
    files = [GOLDEN / f"simclr_tiny.ckpt-3.{ending}" for ending in ("index", "data-00000-of-00001")]
    for file in files:
        (tmp_path / "release").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "release")
    for path in (tmp_path / "release", files[0].with_suffix(""), files[0]):
        key, said = imported(path, "simclr")
        assert "same_pool padding and unit inputs, from tensorflow" in said[0]
    record, spec = runs.read(key), read_spec(runs, key)
    assert record is not None
    sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    assert record.environment == {"imported": {"file": files[0].name, "origin": "tensorflow", "sha256": sha256}}
    assert isinstance(spec, Imported)
    assert run_key(replace(spec, inputs="normalised")) != key
    truth = np.load(GOLDEN / "simclr_tiny_io.npz")
    plain = torch.from_numpy(truth["inputs_nhwc_uint8"]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        got = encoder_of(runs, key).eval()(F.normalize(plain, IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(got, torch.from_numpy(truth["embedding"]), rtol=1e-4, atol=1e-4)
    assert imported(exported(key, "safetensors", tmp_path / "out.safetensors"), "back")[0] == key
    with pytest.raises(ConfigError, match="same_pool padding and unit inputs, which torchvision has no model for"):
        export_encoder(key, "torchvision", None, here, silent)


def test_the_key_is_of_the_tensors(imported: Callable[..., tuple[str, list[str]]], tmp_path: Path) -> None:
    """Protects sharing: the same weights from another file are the same run, one weight less is another."""
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "a.pth")
    save_file({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "b.safetensors")
    first, _ = imported(tmp_path / "a.pth")
    assert imported(tmp_path / "b.safetensors", "same_weights")[0] == first
    state["layer4.1.conv2.weight"][0, 0, 0, 0] += 1
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"theirs\.yaml already names another encoder"):
        imported(tmp_path / "a.pth")
    assert imported(tmp_path / "a.pth", "other")[0] != first


def test_an_import_is_evaluated(
    runs: Runs, place: Place, tiny: Tiny, imported: Callable[..., tuple[str, list[str]]], tmp_path: Path
) -> None:
    """Protects what imports are for: evaluated as an import, an encoder has the numbers that it has as our own."""
    torch.manual_seed(3)
    torch.save(ResNet("resnet_tiny").state_dict(), tmp_path / "ours.pth")
    key, _ = imported(tmp_path / "ours.pth")
    same = write_spec(runs, RandomEncoder(kind="random", encoder="resnet_tiny", width=1, norm="batch", seed=3))
    theirs, ours = (execute(write_spec(runs, replace(tiny[1], subject=subject)), place) for subject in (key, same))
    assert theirs.state == "done"
    assert theirs.results == ours.results


TABLE = """
table: theirs
question: What is an encoder from elsewhere worth?
recipe: byol_r50_300ep
seeds: [0, 1]
evaluate: linear_imagenet
cells:
  - {id: byol, set: {}}
  - {id: theirs, imported: theirs}
"""


def test_a_table_takes_an_import(
    runs: Runs, data: Path, imported: Callable[..., tuple[str, list[str]]], tmp_path: Path
) -> None:
    """Protects cells that name an import: a subject like another, marked, with a seed in its evaluations alone."""
    ours = Path(__file__).parents[2] / "experiments"
    shutil.copytree(ours, tmp_path / "checkout" / "experiments", dirs_exist_ok=True)
    (tmp_path / "checkout" / "experiments" / "tables" / "tabletheirs.yaml").write_text(TABLE)
    torch.save(ResNet("resnet_tiny").state_dict(), tmp_path / "ours.pth")
    key, _ = imported(tmp_path / "ours.pth")
    expansion = expand("theirs", "laptop", cell="theirs")
    assert [(m.subject_key, m.seed, m.evaluation.seed) for m in expansion.members] == [(key, 0, 0), (key, 1, 1)]
    assert list(expansion.runs()) == [m.evaluation_key for m in expansion.members], "nothing to train"
    plan = make_plan([expansion], runs, Scale(machine_named("cpu", "here")))
    check_imported(plan, runs)
    assert list(rubbish(runs, tmp_path / "ray", needed=[])) == [], "nothing could make it again"
    with pytest.raises(ConfigError, match=r"theirs.*imported encoder is not in .*harness import"):
        check_imported(plan, Runs(tmp_path / "another"))
    layout = Layout(
        table="theirs",
        caption="",
        metrics=("linear_imagenet.top1",),
        columns={},
        rows=({"cell": "theirs"},),
        paper={},
        source="nobody",
    )
    table = build_table(layout, expansion, collect(expansion, MemoryStore()))
    assert "theirs is an imported encoder, not trained by this harness." in footer(table)


def test_an_imported_cell_sets_nothing(here: Site, tmp_path: Path) -> None:
    """Protects against a change that would be passed over in silence; a name that is not there lists those that are."""
    shutil.copytree(
        Path(__file__).parents[2] / "experiments", tmp_path / "checkout" / "experiments", dirs_exist_ok=True
    )
    path = tmp_path / "checkout" / "experiments" / "tables" / "tabletheirs.yaml"
    path.write_text(TABLE.replace("imported: theirs}", "imported: theirs, set: {model.width: 2}}"))
    with pytest.raises(ConfigError, match=r"tabletheirs\.yaml:9: an imported encoder has nothing to set"):
        expand("theirs", "laptop")
    path.write_text(TABLE)
    with pytest.raises(ConfigError, match=r"unknown imported encoder 'theirs'"):
        expand("theirs", "laptop")


@pytest.mark.parametrize("form", ["torchvision", "timm"])
def test_an_export_loads_into_torchvision(
    form: str, imported: Callable[..., tuple[str, list[str]]], exported: Callable[..., Path], tmp_path: Path
) -> None:
    """Protects users of our encoders: but for the classifier nothing is missing, and the features are the same."""
    ours = ResNet("resnet18").eval()
    with torch.no_grad():
        for name, buffer in ours.named_buffers():
            buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.normal_()
    torch.save(ours.state_dict(), tmp_path / "ours.pth")
    path = exported(imported(tmp_path / "ours.pth")[0], form, tmp_path / "new" / "out.pth")
    theirs = torchvision.models.resnet18().eval()
    problems = theirs.load_state_dict(torch.load(path, weights_only=True), strict=False)
    assert (problems.missing_keys, problems.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    theirs.fc = nn.Identity()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.double()(x), ours.double()(x), rtol=1e-10, atol=1e-10)


def test_safetensors_there_and_back(
    imported: Callable[..., tuple[str, list[str]]], exported: Callable[..., Path], tmp_path: Path
) -> None:
    """Protects the padding on its way: an exported encoder imports as the run it was, and the file says what it is."""
    key, _ = imported(GOLDEN / "byol_tiny_checkpoint.pkl")
    path = exported(key, "safetensors", tmp_path / "out.safetensors")
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    assert facts["padding"] == "same"
    assert facts["key"] == key
    assert imported(path, "back")[0] == key


def test_a_trained_encoder_is_exported(runs: Runs, tiny: Tiny, write: Callable[..., Record], here: Site) -> None:
    """Protects the usual case: a pretraining's own encoder, under its own name in the working directory."""
    key = write_spec(runs, tiny[0])
    with pytest.raises(ConfigError, match=r"encoder\.safetensors is not there"):
        export_encoder(key, "safetensors", None, here, silent)
    write(tiny[0], "done")
    state = {name: tensor.contiguous() for name, tensor in ResNet("resnet_tiny").state_dict().items()}
    save_file(state, runs.folder(key) / "encoder.safetensors")
    export_encoder(key, "safetensors", None, here, silent)
    back = load_file(f"resnet_tiny-{key}.safetensors")
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    with pytest.raises(ConfigError, match=r"is a resnet_tiny of width 1.*, which torchvision has no model for"):
        export_encoder(key, "torchvision", None, here, silent)


def test_what_cannot_be_exported(
    runs: Runs, tiny: Tiny, here: Site, imported: Callable[..., tuple[str, list[str]]]
) -> None:
    """Protects from wrong features elsewhere: SAME padding has no model in torchvision; evaluations have no encoder."""
    with pytest.raises(ConfigError, match="there is no run nonsense"):
        export_encoder("nonsense", "timm", None, here, silent)
    with pytest.raises(ConfigError, match=f"is an evaluation; export the encoder it measures, {tiny[1].subject}"):
        export_encoder(write_spec(runs, tiny[1]), "timm", None, here, silent)
    key, _ = imported(GOLDEN / "byol_tiny_checkpoint.pkl")
    with pytest.raises(ConfigError, match="same padding and normalised inputs, which timm has no model for"):
        export_encoder(key, "timm", None, here, silent)
    with pytest.raises(ConfigError, match="cannot be written"):
        export_encoder(key, "safetensors", Path("checkout"), here, silent)
    group = replace(tiny[0], model=replace(tiny[0].model, encoder="resnet18", norm="group"))
    key = write_spec(runs, group)
    (runs.folder(key) / "encoder.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"group norm, torch padding .*, which torchvision has no model for"):
        export_encoder(key, "torchvision", None, here, silent)


def test_what_cannot_be_imported(here: Site, imported: Callable[..., tuple[str, list[str]]], tmp_path: Path) -> None:
    """Protects from half an import: every mistake is one sentence with the file, and leaves nothing behind."""
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.pth")
    (tmp_path / "weights.h5").write_bytes(b"")
    for file, name, message in (
        (GOLDEN / "byol_tiny_checkpoint.pkl", "../x", r"--as \.\./x: may hold"),
        (tmp_path / "nowhere.pth", "x", r"nowhere\.pth cannot be read: No such file"),
        (tmp_path / "weights.h5", "x", r"weights\.h5: must end in \.pkl .*, \.index .*, \.pth"),
        (tmp_path / "model.ckpt-5", "x", r"model\.ckpt-5\.index cannot be read: No such file"),
        (tmp_path, "x", "holds 0 TensorFlow checkpoints; name one"),
        (
            GOLDEN / "sharded.ckpt",
            "x",
            r"sharded\.ckpt\.index holds no ResNet of SimCLR's: base_model/conv2d/k",
        ),
        (tmp_path / "other.pth", "x", r"other\.pth: layer1\.0\.conv1\.weight is missing"),
    ):
        with pytest.raises(ConfigError, match=message):
            imported(file, name)
    assert not here.runs.path.exists()
    assert not Path("checkout/experiments/imported").exists()


def test_keys_stay_what_they_are(imported: Callable[..., tuple[str, list[str]]], runs: Runs) -> None:
    """Protects keys: the hash of a golden encoder's tensors does not depend on machine or library versions."""
    key, _ = imported(GOLDEN / "byol_tiny_checkpoint.pkl")
    spec = json.loads((runs.folder(key) / "spec.json").read_text())
    assert spec == {
        "kind": "imported",
        "encoder": "basic-64-1x8-1x8-1x8-1x8",
        "width": 1,
        "padding": "same",
        "tensors_sha256": "6c8dc4d952bf23257c012ddcb94af887de94d61279a02699e7bed38aa1f3d7ba",
    }
    assert key == "78d8a13045b8e0d0"
