"""Batch norm against torch's own, its commits, and a group of processes against one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.models.norm import BatchNorm, StandardisedConv2d, commit, normalisation, norms, set_group, set_momentum


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A batch whose channels differ in mean and scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=dtype)
    channel = torch.arange(1, shape[1] + 1, dtype=dtype).view(-1, *[1] * (len(shape) - 2))
    return x * channel + 3 * channel


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5, 2)])
@pytest.mark.parametrize("train", [True, False])
def test_equals_torch(shape: tuple[int, ...], train: bool) -> None:
    """Outputs and all gradients are torch.nn.BatchNorm's, in train and in evaluation mode."""
    ours = BatchNorm(4).double().train(train)
    theirs = (nn.BatchNorm1d(4) if len(shape) == 2 else nn.BatchNorm2d(4)).double().train(train)
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = torch.rand(4, dtype=torch.float64) + 0.5
            getattr(ours, name).copy_(value)
            getattr(theirs, name).copy_(value)
    x = draw(*shape)
    results = []
    for norm in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
        gradients = torch.autograd.grad((y.sin() * draw(*shape, seed=1)).sum(), [leaf, *norm.parameters()])
        results.append([y, *gradients])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_forward_leaves_running_statistics_and_state_dict() -> None:
    """Nothing moves before the commit, and what is pending is in no checkpoint."""
    norm = BatchNorm(4).double()
    norm(draw(6, 4))
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert torch.equal(norm.running_var, torch.ones(4))


def test_commit_moves_once_by_the_mean_of_the_forwards() -> None:
    """An update with several statistics groups and views counts as one step, with biased variances."""
    norm = BatchNorm(4, momentum=0.1).double()
    batches = [draw(6, 4, seed=s) for s in range(3)]
    for x in batches:
        norm(x)
    commit(norm)
    mean = torch.stack([x.mean(0) for x in batches]).mean(0)
    variance = torch.stack([x.var(0, correction=0) for x in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance)
    once = norm.running_mean.clone()
    commit(norm)
    assert torch.equal(norm.running_mean, once), "nothing was pending"
    norm(batches[0])
    commit(norm)
    torch.testing.assert_close(norm.running_mean, 0.9 * once + 0.1 * batches[0].mean(0))


def test_a_set_momentum_is_torchs() -> None:
    """Protects the direction, in which torch and haiku disagree: torch's own layer of that momentum moves alike, but
    for its unbiased variance.
    """
    ours, theirs = nn.Sequential(BatchNorm(4), nn.ReLU(), BatchNorm(4)).double(), nn.BatchNorm1d(4, momentum=0.03)
    set_momentum(ours, 0.03)
    assert [norm.momentum for norm in norms(ours)] == [0.03, 0.03]
    x = draw(6, 4)
    ours(x)
    commit(ours)
    theirs.double()(x)
    assert theirs.running_mean is not None
    torch.testing.assert_close(ours[0].running_mean, theirs.running_mean)


def test_evaluation_leaves_nothing_pending() -> None:
    """A probe or an evaluation between updates must not contaminate the running statistics."""
    norm = BatchNorm(4).double().eval()
    norm(draw(6, 4))
    commit(norm)
    assert torch.equal(norm.running_mean, torch.zeros(4))


def test_two_forwards_then_two_backwards() -> None:
    """The second view's forward must not overwrite what the first one's backward needs."""
    norm = BatchNorm(4).double()
    first, second = draw(6, 4).requires_grad_(), draw(6, 4, seed=1).requires_grad_()
    loss = norm(first).sin().sum() + norm(second).sin().sum()
    commit(norm)
    loss.backward()
    alone = first.detach().clone().requires_grad_()
    BatchNorm(4).double()(alone).sin().sum().backward()
    torch.testing.assert_close(first.grad, alone.grad)


def test_pending_statistics_hold_no_graph() -> None:
    """Pending sums kept over an accumulation must not keep every forward's activations alive."""
    norm = BatchNorm(4).double()
    norm(draw(6, 4).requires_grad_())
    assert norm.pending is not None
    assert not any(tensor.requires_grad for tensor in norm.pending)


def test_half_precision_input_keeps_its_type() -> None:
    """Under autocast activations are bfloat16: the output is too, the statistics are float32."""
    norm = BatchNorm(4)
    y = norm(draw(6, 4, 3, 3, dtype=torch.float32).bfloat16())
    commit(norm)
    assert y.dtype == torch.bfloat16
    assert norm.running_mean.dtype == torch.float32


def test_without_offset_it_only_scales() -> None:
    """SimCLR's output norm: what leaves it has mean zero, whatever its weight has become."""
    norm = normalisation(4, "batch", offset=False).double()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = draw(6, 4)
    want = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), want)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]


@pytest.mark.parametrize(("features", "groups"), [(64, 16), (4096, 16), (80, 4), (16, 4), (12, 1), (18, 2), (2, 1)])
def test_groups_of_group_norm(features: int, groups: int) -> None:
    """16 wherever the paper's networks need it; in narrow layers none of a single feature, which would be zero."""
    norm = normalisation(features, "group").double()
    x = draw(3, features)
    parts = x.view(3, groups, -1)
    centred = parts - parts.mean(2, keepdim=True)
    want = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), want.view(3, features))


def test_standardised_weights_are_differentiated() -> None:
    """The gradient of the raw weights, by differences; and the output is blind to their mean."""
    layer = StandardisedConv2d(2, 3, 3, bias=False).double()
    x, factor = draw(2, 2, 4, 4), draw(2, 3, 2, 2, seed=1)

    def value(weight: Tensor) -> Tensor:
        return (torch.func.functional_call(layer, {"weight": weight}, (x,)) * factor).sum()

    assert torch.autograd.gradcheck(value, (layer.weight,))
    torch.testing.assert_close(value(layer.weight + 3.0), value(layer.weight))


def test_models_without_batch_norm_commit_and_share_nothing() -> None:
    """An update treats every model alike."""
    net = nn.Sequential(nn.Linear(4, 8), normalisation(8, "group"))
    net(draw(3, 4, dtype=torch.float32))
    set_group(net, None)
    commit(net)
    assert norms(net) == []
    assert list(net[1].buffers()) == []


class Net(nn.Module):
    """Batch norms with something between them, as in an encoder and its head; the last has no offset."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            BatchNorm(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 5),
            normalisation(5, "batch", offset=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 6, 6) to (B, 5)."""
        return self.layers(x)


SHARES = ((0, 5), (5, 8))  # unequal, so that means must be weighted


def _work(rank: int, directory: str, net: Net, x: Tensor) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/meet", rank=rank, world_size=2)
    everyone = dist.group.WORLD
    alone = [dist.new_group([r]) for r in range(2)][rank]
    result = {}
    # the whole group's statistics; each rank's own, averaged at the commit
    for name, group, across in (("shared", everyone, None), ("apart", alone, everyone)):
        copied = copy.deepcopy(net)
        set_group(copied, group)
        mine = x[slice(*SHARES[rank])].clone().requires_grad_()
        y = copied(mine)
        y.sin().sum().backward()
        commit(copied, across)
        gradients = [p.grad for p in copied.parameters() if p.grad is not None]
        for g in gradients:
            dist.all_reduce(g)
        result[name] = [y.detach(), mine.grad, gradients, list(copied.buffers())]
    torch.save(result, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Net, Tensor, list[dict[str, list]]]:
    """What two gloo processes computed from the parts of one batch."""
    directory: Path = tmp_path_factory.mktemp("gloo")
    torch.manual_seed(0)
    net, x = Net().double(), draw(8, 3, 6, 6)
    torch.multiprocessing.spawn(_work, args=(str(directory), net, x), nprocs=2)
    return net, x, [torch.load(directory / f"{rank}.pt") for rank in range(2)]


def test_a_group_equals_one_process(grouped: tuple[Net, Tensor, list[dict[str, list]]]) -> None:
    """Outputs, input and parameter gradients and buffers are those of the concatenated batch."""
    net, x, results = grouped
    whole = x.clone().requires_grad_()
    y = net(whole)
    y.sin().sum().backward()
    commit(net)
    for (start, end), result in zip(SHARES, results, strict=True):
        output, gradient, gradients, buffers = result["shared"]
        torch.testing.assert_close(output, y[start:end].detach(), rtol=0, atol=1e-10)
        assert whole.grad is not None
        torch.testing.assert_close(gradient, whole.grad[start:end], rtol=0, atol=1e-10)
        for got, p in zip(gradients, net.parameters(), strict=True):
            torch.testing.assert_close(got, p.grad, rtol=0, atol=1e-10)
        for got, want in zip(buffers, net.buffers(), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


def test_groups_side_by_side_commit_their_mean(grouped: tuple[Net, Tensor, list[dict[str, list]]]) -> None:
    """Two statistics groups on two ranks leave the buffers that two accumulated groups on one rank leave."""
    net, x, results = grouped
    single = Net().double()
    single.load_state_dict(net.state_dict())
    for name, buffer in single.named_buffers():
        buffer.fill_(1.0 if name.endswith("var") else 0.0)
    for start, end in SHARES:
        single(x[start:end])
    commit(single)
    for result in results:
        for got, want in zip(result["apart"][3], single.buffers(), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
