"""Encoders from elsewhere, as runs of ours; and ours, as files for others."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save
from torch import Tensor

from harness.config.durable import write_durably
from harness.config.errors import ConfigError
from harness.config.files import project_root
from harness.config.identity import plain, run_key
from harness.config.schema import Evaluation, Imported, Pretrain
from harness.launch.site import Site, commit
from harness.launch.specs import read_spec, write_spec
from harness.models.haiku import read_haiku
from harness.models.shape import MismatchError, Padding, fit
from harness.models.state_dict import read_safetensors, read_torch
from harness.tracking.record import Record, Runs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
KNOWN = {"torchvision": _TORCHVISION, "timm": (*_TORCHVISION, "resnet200"), "safetensors": None}


def import_encoder(file: Path, name: str, here: Site, say: Callable[[str], None]) -> int:
    """Keep the encoder of `file` as a finished run, and its description as experiments/imported/<name>.yaml."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--as {name}: may hold letters, digits and _ . + - alone")
    file_sha256 = _file_sha256(file)
    tensors, padding, origin = _read(file)
    try:
        encoder, width, state = fit(tensors)
    except MismatchError as error:
        raise ConfigError(f"{file}: {error}") from None
    spec = Imported(
        kind="imported", encoder=encoder, width=width, padding=padding, tensors_sha256=tensors_sha256(state)
    )
    source = {"file": file.name, "origin": origin, "sha256": file_sha256}
    described = _describe(name, spec, source)
    _keep(spec, state, source, here.runs)
    say(f"{encoder} of width {width}, {padding} padding, from {origin}: {here.runs.folder(run_key(spec))}")
    say(f"tables name it by {described}")
    return 0


def export_encoder(key: str, form: str, out: Path | None, here: Site, say: Callable[[str], None]) -> int:
    """Write the encoder of run `key`; torchvision's and timm's models load it but for their classifier."""
    encoder, width, norm, padding = _architecture(here.runs, key)
    trained = here.runs.folder(key) / "encoder.safetensors"
    if not trained.exists():
        raise ConfigError(f"{trained} is not there: the run has no encoder yet; `harness status` tells how far it is")
    known = KNOWN[form]
    shown = f"{encoder} of width {width}, {norm} norm and {padding} padding"
    if known is None:
        facts = {"format": "pt", "key": key, "encoder": encoder, "width": str(width), "norm": norm, "padding": padding}
        path = out or Path(f"{encoder}-{key}.safetensors")
        _write(path, lambda file: file.write(save(load_file(trained), facts)))
    elif encoder not in known or (width, norm, padding) != (1, "batch", "torch"):
        raise ConfigError(f"{key} is a {shown}, which {form} has no model for; export it with --format safetensors")
    else:
        path = out or Path(f"{encoder}-{key}.pth")
        _write(path, lambda file: torch.save(load_file(trained), file))
    say(f"{shown}, of run {key}: {path}")
    return 0


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Of names, shapes and single-precision values, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{list(state[name].shape)}".encode())
        digest.update(state[name].numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _read(file: Path) -> tuple[dict[str, Tensor], Padding, str]:
    """(tensors in torchvision's names, padding, where they are from), as the file's ending says."""
    if file.suffix in (".pkl", ".pickle"):
        return read_haiku(file), "same", "haiku"
    if file.suffix in (".pth", ".pt", ".bin"):
        return read_torch(file), "torch", "torch"
    if file.suffix == ".safetensors":
        return *read_safetensors(file), "safetensors"
    raise ConfigError(f"{file}: must end in .pkl (a BYOL checkpoint of DeepMind's), .pth, .pt, .bin or .safetensors")


def _describe(name: str, spec: Imported, source: Mapping[str, str]) -> Path:
    """Write what tables need to name the encoder; the same name for another is refused."""
    path = project_root() / "experiments" / "imported" / f"{name}.yaml"
    own = {key: value for key, value in plain(spec).items() if key != "kind"}
    if path.exists():
        known = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or {key: known.get(key) for key in own} != own:
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


def _architecture(runs: Runs, key: str) -> tuple[str, int, str, Padding]:
    """(encoder, width, norm, padding) of a run."""
    if not (runs.folder(key) / "spec.json").exists():
        raise ConfigError(f"there is no run {key} in {runs.path}")
    spec = read_spec(runs, key)
    if isinstance(spec, Evaluation):
        raise ConfigError(f"{key} is an evaluation; export the encoder it measures, {spec.subject}")
    if isinstance(spec, Imported):
        return spec.encoder, spec.width, "batch", spec.padding
    model = spec.model if isinstance(spec, Pretrain) else spec
    return model.encoder, model.width, model.norm, "torch"


def _write(path: Path, write: Callable[..., object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, write)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); name another file with --out") from None


def _file_sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
