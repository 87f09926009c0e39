"""Muon against PyTorch's own, and what its iteration promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren import FieldTask, fit
from hypersiren.training import optimizers
from hypersiren.training.checkpoints import CheckpointError
from hypersiren.training.muon import Muon, orthogonalise


def matrices(*shapes: tuple[int, int], seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(*shape, generator=generator)) for shape in shapes]


def test_it_is_pytorchs_muon_but_for_bfloat16():
    shapes = [(24, 24), (24, 24), (24, 3), (2, 24), (24, 24)]
    ours, theirs = matrices(*shapes), matrices(*shapes)
    fast = Muon(ours, 0.01, weight_decay=0.1)
    slow = torch.optim.Muon(theirs, 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    targets = matrices(*shapes, seed=1)
    for _ in range(20):
        for parameters, optimizer in ((ours, fast), (theirs, slow)):
            optimizer.zero_grad()
            torch.stack([(p - t).square().sum() for p, t in zip(parameters, targets, strict=True)]).sum().backward()
            optimizer.step()
    for a, b, start in zip(ours, theirs, matrices(*shapes), strict=True):
        assert (a - b).norm() < 0.02 * (b - start).norm()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.floats(-6, 6), st.integers(0, 1000))
def test_orthogonal_at_any_shape_and_size(count, m, n, exponent, seed):
    x = torch.randn(count, m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s.clamp_min(0.05 * s.max())  # smaller ones take more iterations than five
    x = (u * s.unsqueeze(-2)) @ v
    found = torch.linalg.svdvals(orthogonalise(x * 10**exponent))
    assert ((found > 0.4) & (found < 1.3)).all()
    # The directions stay: in them it is diagonal.
    torch.testing.assert_close(
        (u.mT @ orthogonalise(x) @ v.mT).diagonal(dim1=-2, dim2=-1).sort().values, found.sort().values
    )


def test_state_comes_back():
    one, other = matrices((6, 6)), matrices((6, 6))
    first, second = Muon(one, 0.1), Muon(other, 0.1)
    for p, optimizer in ((one[0], first),):
        p.grad = torch.eye(6)
        optimizer.step()
    with torch.no_grad():
        other[0].copy_(one[0])
    second.load_state_dict(first.state_dict())
    for p, optimizer in ((one[0], first), (other[0], second)):
        p.grad = -torch.eye(6)
        optimizer.step()
    assert torch.equal(one[0], other[0])


def test_zero_gradients_and_vectors():
    (p,) = matrices((3, 4))
    before = p.detach().clone()
    p.grad = torch.zeros_like(p)
    Muon([p], 0.1).step()
    assert torch.equal(p, before)
    with pytest.raises(ValueError, match=r"expected matrices, got a parameter of shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))])


class Sine(FieldTask):
    """sin(3 x) on [-1, 1]."""

    in_features, out_features = 1, 1

    def sample(self, generator, progress):
        return torch.rand(256, 1, generator=generator) * 2 - 1

    def loss(self, field, x):
        return {"mse": (field(x) - torch.sin(3 * x)).square().mean()}


def test_a_network_too_small_for_muon_is_adams():
    found = []
    for optimizer in ("muon", "adam"):
        torch.manual_seed(0)
        field = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        fit(Sine(), field, steps=20, lr=1e-2, optimizer=optimizer, progress=False)
        found.append(field.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_run_whose_thin_matrices_were_muons_is_refused_in_one_line(tmp_path, monkeypatch):
    """As versions before wrote them."""
    how = {"network": {"hidden_features": 16, "hidden_layers": 1}, "run_dir": tmp_path, "steps": 6, "progress": False}
    with monkeypatch.context() as before:
        before.setattr(optimizers, "THIN", 0)
        fit(Sine(), **how, on_log=lambda step, values: True, log_every=2)
    with pytest.raises(CheckpointError, match="does not fit what is trained here") as refused:
        fit(Sine(), **how, log_every=2)
    assert "\n" not in str(refused.value)
