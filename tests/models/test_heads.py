"""The projector and predictor against the release's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from harness.models.heads import MLP
from harness.models.norm import BatchNorm, commit

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "reference_mlp.npz")


def parameter(name: str) -> torch.Tensor:
    """One of the release's parameters, as a vector or a matrix."""
    return torch.from_numpy(GOLDEN[f"mlp_param:projector.{name}"]).clone()


def test_outputs_and_statistics_equal_the_release() -> None:
    """Bias, batch norm and their order; biased running variance: train, then one update, then evaluation."""
    mlp = MLP(20, (32, 12))
    first, norm, _, last = mlp.layers
    first.load_state_dict({"weight": parameter("linear:w").T, "bias": parameter("linear:b")})
    last.load_state_dict({"weight": parameter("linear_1:w").T})
    with torch.no_grad():
        norm.weight.copy_(parameter("batch_norm:scale")[0])
        norm.bias.copy_(parameter("batch_norm:offset")[0])
        norm.momentum = 1.0  # haiku's averages are zero-debiased: after one update they are that batch's
        x = torch.from_numpy(GOLDEN["mlp_in"])
        trained = torch.from_numpy(GOLDEN["mlp_out_train"])
        torch.testing.assert_close(mlp(x), trained, rtol=1e-4, atol=1e-5)
        commit(mlp)
        for ours, theirs in ((norm.running_mean, "mean_ema"), (norm.running_var, "var_ema")):
            average = torch.from_numpy(GOLDEN[f"mlp_state:projector.batch_norm.~.{theirs}:average"])[0]
            torch.testing.assert_close(ours, average, rtol=1e-5, atol=1e-6)
        evaluated = torch.from_numpy(GOLDEN["mlp_out_eval_after_one_update"])
        torch.testing.assert_close(mlp.eval()(x), evaluated, rtol=1e-4, atol=1e-5)


def test_layers_by_depth() -> None:
    """Depth counts linear layers; the last has neither bias nor batch norm, at any depth (Table 14a)."""
    for widths in ((3,), (8, 3), (8, 7, 3)):
        mlp = MLP(5, widths)
        linear = [m for m in mlp.modules() if isinstance(m, nn.Linear)]
        assert tuple(layer.out_features for layer in linear) == widths
        assert [layer.bias is not None for layer in linear] == [True] * (len(widths) - 1) + [False]
        assert sum(isinstance(m, BatchNorm) for m in mlp.modules()) == len(widths) - 1
        assert isinstance(mlp.layers[-1], nn.Linear)
        assert mlp(torch.randn(4, 5)).shape == (4, 3)


def test_the_output_is_normalised_for_simclr() -> None:
    """A batch norm of a scale alone follows the last layer, which still has no bias."""
    mlp = MLP(5, (8, 3), output_norm=True)
    last, norm = mlp.layers[-2:]
    assert isinstance(last, nn.Linear)
    assert isinstance(norm, BatchNorm)
    assert last.bias is None
    assert norm.bias is None
    y = mlp(torch.randn(64, 5))
    torch.testing.assert_close(y.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(3), rtol=0, atol=1e-3)


def test_group_norm_leaves_no_batch_statistics() -> None:
    """With norm: group each row is mapped alone, hidden layers and a normalised output included."""
    mlp = MLP(5, (32, 16), norm="group", output_norm=True).double()
    x = torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(mlp(x)[:1], mlp(x[:1]))
    assert mlp(x).std(0).min() > 0.01
    assert sum(isinstance(m, nn.GroupNorm) for m in mlp.modules()) == 2
    assert not any(isinstance(m, BatchNorm) for m in mlp.modules())
