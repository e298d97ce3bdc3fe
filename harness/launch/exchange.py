"""Encoders from elsewhere, as runs of ours; and ours, as files for others."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save
from torch import Tensor

from harness.config.document import read_yaml
from harness.config.durable import write_durably
from harness.config.errors import ConfigError
from harness.config.files import project_root
from harness.config.identity import plain, run_key
from harness.config.schema import Evaluation, Imported, Pretrain
from harness.launch.site import Site, commit
from harness.launch.specs import read_spec, write_spec
from harness.models.conventions import DEEPMIND, SIMCLR, TORCH, Conventions
from harness.models.fingerprint import tensors_sha256
from harness.models.haiku import read_haiku
from harness.models.shape import MismatchError, fit
from harness.models.simclr import read_simclr
from harness.models.state_dict import read_safetensors, read_torch
from harness.models.tensorflow import Checkpoint, is_checkpoint
from harness.tracking.record import Record, Runs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
KNOWN = {"torchvision": _TORCHVISION, "timm": (*_TORCHVISION, "resnet200"), "safetensors": None}


def import_encoder(file: Path, name: str, here: Site, say: Callable[[str], None]) -> int:
    """Keep the encoder of `file` as a finished run, and its description as experiments/imported/<name>.yaml.

    Of a TensorFlow checkpoint `file` is the index, its name without that ending, or its folder.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--as {name}: may hold letters, digits and _ . + - alone")
    tensors, conventions, source = _read_bundle(file) if is_checkpoint(file) else _read(file)
    try:
        encoder, width, state = fit(tensors)
    except MismatchError as error:
        raise ConfigError(f"{file}: {error}") from None
    spec = Imported(
        kind="imported",
        encoder=encoder,
        width=width,
        padding=conventions.padding,
        tensors_sha256=tensors_sha256(state),
        inputs=conventions.inputs,
    )
    described = _describe(name, spec, source)
    _keep(spec, state, source, here.runs)
    shown = f"{encoder} of width {width}, {conventions}"
    say(f"{shown}, from {source['origin']}: {here.runs.folder(run_key(spec))}")
    say(f"tables name it by {described}")
    return 0


def export_encoder(key: str, form: str, out: Path | None, here: Site, say: Callable[[str], None]) -> int:
    """Write the encoder of run `key`; torchvision's and timm's models load it but for their classifier."""
    encoder, width, norm, conventions = _architecture(here.runs, key)
    trained = here.runs.folder(key) / "encoder.safetensors"
    if not trained.exists():
        raise ConfigError(f"{trained} is not there: the run has no encoder yet; `harness status` tells how far it is")
    known = KNOWN[form]
    shown = f"{encoder} of width {width}, {norm} norm, {conventions}"
    if known is None:
        facts = {"format": "pt", "key": key, "encoder": encoder, "width": str(width), "norm": norm}
        facts |= asdict(conventions)
        path = out or Path(f"{encoder}-{key}.safetensors")
        _write(path, lambda file: file.write(save(load_file(trained), facts)))
    elif encoder not in known or (width, norm, conventions) != (1, "batch", TORCH):
        raise ConfigError(f"{key} is a {shown}, which {form} has no model for; export it with --format safetensors")
    else:
        path = out or Path(f"{encoder}-{key}.pth")
        _write(path, lambda file: torch.save(load_file(trained), file))
    say(f"{shown}, of run {key}: {path}")
    return 0


def _read(file: Path) -> tuple[dict[str, Tensor], Conventions, dict[str, str]]:
    """(tensors in torchvision's names, conventions, where they are from), as the file's ending says."""
    sha256 = _sha256([file])
    if file.suffix in (".pkl", ".pickle"):
        return read_haiku(file), DEEPMIND, {"file": file.name, "origin": "haiku", "sha256": sha256}
    if file.suffix in (".pth", ".pt", ".bin"):
        return read_torch(file), TORCH, {"file": file.name, "origin": "torch", "sha256": sha256}
    if file.suffix == ".safetensors":
        return *read_safetensors(file), {"file": file.name, "origin": "safetensors", "sha256": sha256}
    known = ".pkl (a BYOL checkpoint of DeepMind's), .index (one of SimCLR's), .pth, .pt, .bin or .safetensors"
    raise ConfigError(f"{file}: must end in {known}")


def _read_bundle(path: Path) -> tuple[dict[str, Tensor], Conventions, dict[str, str]]:
    """The same of a TensorFlow checkpoint, which is several files."""
    checkpoint = Checkpoint(path)
    tensors = read_simclr(checkpoint)
    source = {"file": checkpoint.index.name, "origin": "tensorflow", "sha256": _sha256(checkpoint.files())}
    return tensors, SIMCLR, source


def _describe(name: str, spec: Imported, source: Mapping[str, str]) -> Path:
    """Write what tables need to name the encoder; the same name for another is refused."""
    path = project_root() / "experiments" / "imported" / f"{name}.yaml"
    own = {key: value for key, value in plain(spec).items() if key != "kind"}
    if path.exists():
        known = read_yaml(path).data
        if {key: known.get(key) for key in own} != own:
            raise ConfigError(f"{path} already names another encoder; choose another name, or delete that file")
        return path
    path.parent.mkdir(exist_ok=True)
    heading = f"# An imported encoder: run {run_key(spec)}. Where that is missing, `harness import` the source again."
    text = heading + "\n" + yaml.safe_dump({**own, "source": dict(source)}, sort_keys=False)
    write_durably(path, lambda file: file.write(text.encode()))
    return path


def _keep(spec: Imported, state: dict[str, Tensor], source: Mapping[str, str], runs: Runs) -> None:
    started = time.time()
    key = write_spec(runs, spec)
    write_durably(runs.folder(key) / "encoder.safetensors", lambda file: file.write(save(state)))
    record = Record(
        key=key,
        kind=spec.kind,
        state="running",
        spec=plain(spec),
        commit=commit(),
        environment={"imported": dict(source)},
        started_unix_s=started,
    )
    runs.write(record.ended("done", time.time()))


def _architecture(runs: Runs, key: str) -> tuple[str, int, str, Conventions]:
    """(encoder, width, norm, conventions) of a run."""
    if not (runs.folder(key) / "spec.json").exists():
        raise ConfigError(f"there is no run {key} in {runs.path}")
    spec = read_spec(runs, key)
    if isinstance(spec, Evaluation):
        raise ConfigError(f"{key} is an evaluation; export the encoder it measures, {spec.subject}")
    if isinstance(spec, Imported):
        return spec.encoder, spec.width, "batch", Conventions(spec.padding, spec.inputs)
    model = spec.model if isinstance(spec, Pretrain) else spec
    return model.encoder, model.width, model.norm, TORCH


def _write(path: Path, write: Callable[..., object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, write)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); name another file with --out") from None


def _sha256(files: Iterable[Path]) -> str:
    """Of one file, or of several one after the other."""
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as opened:
                hashlib.file_digest(opened, lambda: digest)
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    return digest.hexdigest()
