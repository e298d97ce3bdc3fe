"""Encoders from elsewhere: the release's checkpoints and torchvision's state dicts, against what they put out there."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config.errors import ConfigError
from harness.models.conventions import DEEPMIND, TORCH
from harness.models.haiku import HaikuError, read_haiku, torchvision_names
from harness.models.heads import MLP
from harness.models.padding import pad_same
from harness.models.shape import MismatchError, Shape, build, fit, shape_of
from harness.models.state_dict import read_safetensors, read_torch

CHECKPOINTS = Path(__file__).parents[1] / "golden" / "checkpoints"
RELEASED = {"tiny": "basic-64-1x8-1x8-1x8-1x8", "small": "bottleneck-64-2x4-2x8-2x16-2x32"}


def agree(got: Tensor, want: np.ndarray) -> None:
    torch.testing.assert_close(got, torch.from_numpy(want), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", list(RELEASED))
def test_released_checkpoints_embed_as_they_did(size: str) -> None:
    """Protects names, layouts, averages and padding: the embeddings are those of DeepMind's code, to 1e-4."""
    encoder, width, state = fit(read_haiku(CHECKPOINTS / f"byol_{size}_checkpoint.pkl"))
    assert (encoder, width) == (RELEASED[size], 1)
    net = build(encoder, width, DEEPMIND).eval()
    net.load_state_dict(state)
    truth = np.load(CHECKPOINTS / f"byol_{size}_checkpoint_io.npz")
    images = torch.from_numpy(truth["inputs_nhwc"]).permute(0, 3, 1, 2)
    with torch.no_grad():
        embedding = net(images)
        agree(embedding, truth["embedding"])
        symmetric = build(encoder, width).eval()
        symmetric.load_state_dict(state)
        assert (symmetric(images) - embedding).abs().max() > 0.01, "the padding matters, so the truth sees it"
        projection = head("projector", size, embedding.shape[1])(embedding)
        agree(projection, truth["projection"])
        agree(head("predictor", size, projection.shape[1])(projection), truth["prediction"])


def head(name: str, size: str, inputs: int) -> MLP:
    """The release's projector or predictor in our MLP."""

    class Trusting(pickle.Unpickler):
        """The file is ours; this reads it another way than the package does."""

        def find_class(self, module: str, name: str) -> Any:
            stand_ins = {
                "_create_array": lambda make, arguments, state, _: [a := make(*arguments), a.__setstate__(state)][0],
                "_create_namedtuple": lambda name, fields, *_: namedtuple(name, fields),
                "FlatMapping": dict,
            }
            return stand_ins.get(name) or super().find_class(module, name)

    with (CHECKPOINTS / f"byol_{size}_checkpoint.pkl").open("rb") as file:
        online = Trusting(file).load()["experiment_state"]
    parameters, state = online.online_params, online.online_state
    first, norm, last = (parameters[f"{name}/{part}"] for part in ("linear", "batch_norm", "linear_1"))
    averages = [state[f"{name}/batch_norm/~/{part}_ema"]["average"] for part in ("mean", "var")]
    values = [first["w"].T, first["b"], norm["scale"], norm["offset"], *averages, last["w"].T]
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "3.weight"]
    mlp = MLP(inputs, (len(first["b"]), last["w"].shape[1])).eval()
    arrays = [value if value.ndim == 2 and len(value) > 1 else value.ravel() for value in values]
    mlp.load_state_dict({f"layers.{n}": torch.from_numpy(a.copy()) for n, a in zip(names, arrays, strict=True)})
    return mlp


def test_the_released_resnet_50_is_ours() -> None:
    """Protects the names of the real checkpoint: every module of its tree has a place, and no tensor is missing."""
    tree = json.loads((CHECKPOINTS / "resnet50_checkpoint_tree.json").read_text())
    parameters, state = (
        {module: {name: np.zeros(shape, "f4") for name, shape in leaves.items()} for module, leaves in half.items()}
        for half in (tree["params"], tree["state"])
    )
    assert fit(torchvision_names(parameters, state))[:2] == ("resnet50", 1)


@pytest.mark.parametrize("side", [7, 8, 9, 12])
@pytest.mark.parametrize("kernel", [3, 7])
def test_same_padding_by_brute_force(side: int, kernel: int) -> None:
    """Protects TensorFlow's rule: ceil(side / 2) windows, the odd pixel of padding right and below."""
    conv = nn.Conv2d(1, 1, kernel, 2, kernel // 2, bias=False)
    x = torch.randn(1, 1, side, side + 1)
    weight = conv.weight.detach().clone()
    pad_same(conv)
    rows, columns = -(-side // 2), -(-(side + 1) // 2)
    before = [max((n - 1) * 2 + kernel - s, 0) // 2 for n, s in ((rows, side), (columns, side + 1))]
    canvas = torch.zeros(side + 2 * kernel, side + 1 + 2 * kernel)
    canvas[before[0] : before[0] + side, before[1] : before[1] + side + 1] = x[0, 0]
    got = conv(x)[0, 0]
    assert got.shape == (rows, columns)
    for i in range(rows):
        for j in range(columns):
            window = canvas[2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel]
            torch.testing.assert_close(got[i, j], (window * weight[0, 0]).sum())


def test_same_padding_leaves_names_and_stride_1_alone() -> None:
    """Protects state dicts, which load into either padding; on odd sides both paddings are one."""
    plain, same = build(RELEASED["tiny"], 1), build(RELEASED["tiny"], 1, DEEPMIND)
    same.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 65, 65)
    with torch.no_grad():
        torch.testing.assert_close(same.eval()(x), plain.eval()(x))
        assert not torch.allclose(same(x[..., 1:, 1:]), plain(x[..., 1:, 1:]), atol=1e-3)
    pool = nn.MaxPool2d(3, 2, 1)
    pad_same(pool)
    x = F.relu(torch.randn(1, 1, 8, 8))
    assert torch.equal(pool(x)[0, 0, -1, -1], x[0, 0, 6:, 6:].max())


@pytest.mark.parametrize(("encoder", "form"), [("resnet18", "safetensors"), ("resnet50", "pth")])
def test_torchvisions_weights_give_its_outputs(encoder: str, form: str, tmp_path: Path) -> None:
    """Protects torchvision's names in both files: the same features in double precision, to 1e-10."""
    theirs = torchvision.models.get_model(encoder, weights=None)
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():  # other than 0 and 1, or buffers would go untested
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.8, 1.2)
    path = tmp_path / f"weights.{form}"
    if form == "pth":
        torch.save(theirs.state_dict(keep_vars=True), path)  # some files hold parameters
        tensors = read_torch(path)
    else:
        save_file(theirs.state_dict(), path)
        tensors, conventions = read_safetensors(path)
        assert conventions == TORCH
    name, width, state = fit(tensors)
    assert (name, width) == (encoder, 1)
    with torch.device("meta"):  # drawing weights to throw away takes longer than the rest
        ours = build(name, width)
    ours.load_state_dict(state, assign=True)
    theirs.fc = nn.Identity()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours.double().eval()(x), theirs.double().eval()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("encoder", "width"), [("resnet_tiny", 1), ("resnet34", 2), ("resnet200", 2), ("resnet50", 4)])
def test_depth_and_width_are_told_from_shapes(encoder: str, width: int) -> None:
    """Protects the inference: each encoder's own tensors say which it is, at every width."""
    with torch.device("meta"):
        tensors = build(encoder, width).state_dict()
        assert fit(tensors)[:2] == (encoder, width)


def test_a_shape_is_its_text() -> None:
    """Protects specs of encoders that have no name: what is built from the text has the shape."""
    shape = Shape("basic", 16, ((1, 8), (2, 8), (1, 32), (3, 16)))
    assert str(shape) == "basic-16-1x8-2x8-1x32-3x16"
    net = build(str(shape), 1)
    assert shape_of(net.state_dict()) == shape
    assert net(torch.randn(2, 3, 33, 33)).shape == (2, net.features)
    assert net.features == 16


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    """ResNet-18's tensors with some replaced, or taken away."""
    with torch.device("meta"):
        tensors = dict(build("resnet18", 1).state_dict())
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer2.0.conv2.weight": torch.zeros(128, 4, 3, 3)}, r"layer2\.0\.conv2\.weight: found 128x4x3x3.*128x128x3"),
        ({"layer4.1.bn2.bias": None}, r"layer4\.1\.bn2\.bias is missing; resnet18 of width 1 wants 512"),
        ({"bn1.running_var": torch.zeros(64).long()}, r"bn1\.running_var: found 64 of int64.*64 of float32"),
        ({"layer1.0.se.fc1.weight": torch.zeros(4, 64)}, r"layer1\.0\.se\.fc1\.weight: found 4x64; resnet18.*has none"),
        ({"conv1.weight": None}, r"conv1\.weight is missing; every ResNet"),
        ({"conv1.weight": torch.zeros(64)}, r"conv1\.weight: found 64; a ResNet wants outputs"),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1\.weight: found 64x3x3x3.*wants 64x3x7x7"),
        ({"layer1.0.conv1.weight": None}, r"layer1\.0\.conv1\.weight is missing"),
        ({"layer5.0.conv1.weight": torch.zeros(64, 3, 3, 3)}, r"layer5 is the last of 5 stages; a ResNet has 4"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(changes: dict[str, Tensor | None], message: str) -> None:
    """Protects a person with a checkpoint of another architecture: which tensor, what it is, what is wanted."""
    with pytest.raises(MismatchError, match=message):
        fit(changed(**changes))


def test_other_residual_networks_are_refused() -> None:
    """Protects from features of a network that only looks the same: wide and grouped bottlenecks of torchvision."""
    for name, tensor in (("wide_resnet50_2", "layer1.0.conv3.weight"), ("resnext50_32x4d", "layer1.0.conv2.weight")):
        with torch.device("meta"):
            state = torchvision.models.get_model(name, weights=None).state_dict()
        with pytest.raises(MismatchError, match=f"{tensor}: found"):
            fit(state)


class Asks:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, getattr, print, np.load])
def test_a_pickle_that_asks_for_more_is_refused(function: Any, protocol: int, tmp_path: Path) -> None:
    """Protects the machine: no function but the inert ones is found, and the message names what was asked for."""
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"experiment_state": Asks(function, f"touch {tmp_path}/ran")}, protocol))
    with pytest.raises(HaikuError, match=rf"evil\.pkl asks for \w+\.{function.__name__},.*refused"):
        read_haiku(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_admitted_is_inert() -> None:
    """Protects the list itself: nothing a pickle may name comes from outside the reader."""
    from harness.config import pickled  # noqa: PLC0415  # as below
    from harness.models import haiku  # noqa: PLC0415  # its private list

    makers = {named.make.__module__ for named in haiku._ADMITTED.values()}
    assert makers == {haiku.__name__, pickled.__name__}


def test_broken_pickles_are_one_sentence(tmp_path: Path) -> None:
    """Protects from tracebacks: cut off anywhere, empty, text, another tree, arrays of objects."""
    whole = (CHECKPOINTS / "byol_tiny_checkpoint.pkl").read_bytes()
    path = tmp_path / "broken.pkl"
    for size in (0, 1, 30, 1000, 100_000, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(HaikuError, match=r"broken\.pkl is cut off or no pickle"):
            read_haiku(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(HaikuError, match="cut off or no pickle"):
        read_haiku(path)
    path.write_bytes(pickle.dumps({"params": {}}))
    with pytest.raises(HaikuError, match="holds no experiment_state with online_params"):
        read_haiku(path)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mlp/~/linear": {"w": np.zeros((2, 2), "f4")}}, "module mlp/~/linear is none of a ResNet"),
        ({"net/~/initial_conv": {"b": np.zeros(2, "f4")}}, "net/~/initial_conv has no w"),
        ({"net/~/initial_conv": {"w": np.zeros((2, 2), "f4")}}, "w has 2 dimensions, not 4"),
        ({"net/~/initial_conv": {"w": np.zeros((2, 2, 2, 2), "i4")}}, "holds other numbers"),
        ({"net/~/initial_conv": {"w": "weights"}}, "dimensions"),
        ({"net/~/initial_conv": ["w"]}, "holds no ResNet"),
        (["net/~/initial_conv"], "holds no ResNet"),
        (None, "holds no ResNet"),
    ],
)
def test_other_trees_are_one_sentence(parameters: Any, message: str, tmp_path: Path) -> None:
    """Protects from tracebacks on trees of other networks; plain pickles of plain dicts are read like dill's."""
    path = tmp_path / "broken.pkl"
    state = {"online_params": parameters, "online_state": {}}
    path.write_bytes(pickle.dumps({"experiment_state": state}, protocol=4))
    with pytest.raises(HaikuError, match=message):
        read_haiku(path)


def test_broken_state_dicts_are_one_sentence(tmp_path: Path) -> None:
    """Protects from tracebacks and from pickled code in torch's files: cut off, empty, evil, no state dict."""
    whole, path = tmp_path / "whole.pth", tmp_path / "broken.pth"
    torch.save(OrderedDict(w=torch.zeros(1000)), whole)
    for size in (0, 10, 2000):
        path.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(ConfigError, match=r"broken\.pth is cut off or no file of torch\.save"):
            read_torch(path)
        as_safetensors = path.with_suffix(".safetensors")
        as_safetensors.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(ConfigError, match=r"broken\.safetensors is cut off or no safetensors file"):
            read_safetensors(as_safetensors)
    torch.save({"w": Asks(os.system, f"touch {tmp_path}/ran")}, path)
    with pytest.raises(ConfigError, match=rf"broken\.pth asks for {os.name}\.system, which is no tensor; refused"):
        read_torch(path)
    assert not (tmp_path / "ran").exists()
    for odd in ([torch.zeros(1)], {"epoch": 3, "state_dict": {}}, {1: torch.zeros(1)}):
        torch.save(odd, path)
        with pytest.raises(ConfigError, match="is no plain state dict"):
            read_torch(path)
    save_file({"w": torch.zeros(1)}, as_safetensors, {"padding": "reflect", "format": "pt"})
    with pytest.raises(ConfigError, match=r"broken\.safetensors: its metadata: padding: .*same_pool.*'reflect'"):
        read_safetensors(as_safetensors)
