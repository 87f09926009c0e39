"""Jets against autograd through the same network, one signal and one point at a time; and compiled against eager."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad, hessian, jacfwd, vmap

from hypersiren.fields import jets
from hypersiren.fields.siren import Params, Siren

PIECES = {None: None, "laplacian": "laplacian", "diagonal": "hessian_diagonal", "full": "hessian"}


def oracle(siren: Siren, params: Params, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every piece of the jet of one signal, by automatic differentiation at every point by itself."""

    def value(point):
        return functional_call(siren, params, (point.unsqueeze(0),)).squeeze(0)

    second = vmap(hessian(value))(x)
    diagonal = second.diagonal(dim1=-2, dim2=-1)
    return {
        "value": vmap(value)(x),
        "gradient": vmap(jacfwd(value))(x),
        "hessian": second,
        "hessian_diagonal": diagonal,
        "laplacian": diagonal.sum(-1),
    }


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    """Equal to so small a share of the largest entry."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item())


def example(dimensions, channels, width, layers, omegas, seed):
    generator = torch.Generator().manual_seed(seed)
    siren = Siren(dimensions, channels, width, layers, *omegas, generator=generator).double()
    return siren, generator


@settings(max_examples=60, deadline=None)
@given(
    signals=st.integers(0, 3),  # 0: the network's own weights, no signal axis
    points=st.integers(1, 4),
    dimensions=st.integers(1, 4),
    channels=st.integers(1, 4),
    width=st.integers(1, 12),
    layers=st.integers(0, 3),
    omegas=st.tuples(st.floats(1, 30), st.floats(1, 30)),
    own_points=st.booleans(),
    first=st.booleans(),
    second=st.sampled_from(list(PIECES)),
    seed=st.integers(0, 2**31),
)
@pytest.mark.slow
def test_jets_and_their_gradients_by_the_weights_equal_autograd(
    signals, points, dimensions, channels, width, layers, omegas, own_points, first, second, seed
):
    siren, generator = example(dimensions, channels, width, layers, omegas, seed)
    batch = (signals,) if signals else ()
    params = {
        name: (p.detach() * (1 + 0.1 * torch.rand(*batch, *p.shape, generator=generator).double())).requires_grad_()
        for name, p in siren.named_parameters()
    }
    x = 2 * torch.rand((*batch * own_points, points, dimensions), generator=generator).double() - 1

    pieces = vars(siren.bind(params).jet(x, first=first, second=second))
    found = {name: piece for name, piece in pieces.items() if piece is not None}
    assert set(found) == {"value", "gradient" if first else None, PIECES[second]} - {None}
    if signals:
        one = [oracle(siren, {n: p[i] for n, p in params.items()}, x[i] if own_points else x) for i in range(signals)]
        expected = {name: torch.stack([pieces[name] for pieces in one]) for name in found}
    else:
        expected = oracle(siren, params, x)
    for name, piece in found.items():
        close(piece, expected[name])
        weight = torch.rand(piece.shape, generator=generator).double()
        by_jet, by_autograd = (
            torch.autograd.grad((weight * y).sum(), list(params.values()), retain_graph=True, materialize_grads=True)
            for y in (piece, expected[name])
        )
        for a, b in zip(by_jet, by_autograd, strict=True):
            close(a, b)


@pytest.mark.parametrize(("dimensions", "channels"), [(1, 1), (2, 1), (3, 2), (2, 4)])
def test_forward_and_reverse_gradients_agree(dimensions, channels):
    siren, _ = example(dimensions, channels, 16, 2, (30, 30), seed=0)
    weights = [(layer.weight, layer.bias) for layer in siren.layers]
    x = torch.rand(6, dimensions).double()
    forward, reverse = jets.forward_jet(x, weights), jets.reverse_jet(x, weights)
    close(reverse.value, forward.value)
    close(reverse.gradient, forward.gradient)


@pytest.mark.parametrize("name", ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.2.bias"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_signal_axis_on_one_leaf_alone(name, channels):
    siren, generator = example(2, channels, 8, 1, (30, 30), seed=0)
    own = siren.get_parameter(name).detach()
    leaf = own * (1 + 0.1 * torch.rand(3, *own.shape, generator=generator).double())
    x = torch.rand(5, 2).double()
    for second, piece in PIECES.items():
        jet = siren.jet(x, {name: leaf}, second=second)
        for i in range(3):
            one = siren.jet(x, {name: leaf[i]}, second=second)
            for n in {"value", "gradient", piece} - {None}:
                close(getattr(jet, n)[i], getattr(one, n))


def test_jets_under_vmap_grad_and_functional_call():
    siren, generator = example(2, 1, 8, 2, (30, 30), seed=0)
    params = {n: p.detach() + 0.01 * torch.rand(3, *p.shape, generator=generator) for n, p in siren.named_parameters()}
    x = torch.rand(5, 2).double()

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.field = siren

        def forward(self, x):
            jet = self.field.jet(x, second="full")
            return jet.value.square().sum() + jet.gradient.square().sum() + jet.hessian.square().sum()

    def loss(p):
        return functional_call(Loss(), {f"field.{n}": leaf for n, leaf in p.items()}, (x,))

    under_vmap = vmap(grad(loss))(params)
    for leaf in params.values():
        leaf.requires_grad_()
    jet = siren.jet(x, params, second="full")
    total = jet.value.square().sum() + jet.gradient.square().sum() + jet.hessian.square().sum()
    for name, g in zip(params, torch.autograd.grad(total, list(params.values())), strict=True):
        close(under_vmap[name], g)


def test_values_of_a_jet_are_those_of_the_field():
    siren = Siren(2, 3)
    x = torch.rand(20, 2)
    for second in PIECES:
        assert torch.equal(siren.jet(x, second=second).value, siren(x))
    assert torch.equal(siren.jet(x, first=False).value, siren(x))


def test_third_derivatives_through_a_jet():
    """The Laplacian of a jet may be differentiated by the coordinates again."""
    siren, _ = example(2, 1, 8, 1, (5, 5), seed=0)
    x = torch.rand(4, 2).double().requires_grad_()
    (found,) = torch.autograd.grad(siren.jet(x, second="laplacian").laplacian.sum(), x)
    (expected,) = torch.autograd.grad(oracle(siren, dict(siren.named_parameters()), x)["laplacian"].sum(), x)
    close(found, expected)


def test_what_is_wrong_is_refused():
    siren = Siren(2, 1, 8, 1)
    with pytest.raises(ValueError, match=r"expected coordinates \(\.\.\., 2\), got \(5, 3\)"):
        siren.jet(torch.rand(5, 3))
    with pytest.raises(ValueError, match=r"got also \['layers\.9\.weight'\]"):
        siren.jet(torch.rand(5, 2), {"layers.9.weight": torch.rand(8, 8)})
    unchecked = inspect.unwrap(jets.jet)  # the tests' type checker would refuse it before
    with pytest.raises(ValueError, match=r"expected second to be one of .*, got 'all'"):
        unchecked(torch.rand(5, 2), [(layer.weight, layer.bias) for layer in siren.layers], second="all")


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_compiled_jets_equal_eager():
    """In a process of its own, without the run-time type checker, which cannot be traced."""
    script = Path(__file__).with_name("compiled_jets.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "agree" in done.stdout


@pytest.mark.parametrize("second", PIECES)
def test_many_points_are_taken_some_at_a_time(monkeypatch, second):
    siren, x = Siren(2, 3, 8, 1).double(), torch.rand(200, 2, dtype=torch.float64)
    whole = siren.jet(x, second=second)
    monkeypatch.setattr(jets, "CACHED", 8)
    seen = []
    forward = jets.forward_jet
    monkeypatch.setattr(
        jets, "forward_jet", lambda x, *args, **kwargs: seen.append(len(x)) or forward(x, *args, **kwargs)
    )
    found = siren.jet(x, second=second)
    assert seen == [64, 64, 64, 8]
    for name in vars(whole):
        if getattr(whole, name) is None:
            assert getattr(found, name) is None
            continue
        close(getattr(found, name), getattr(whole, name))
        weight = siren.layers[0].weight
        both = [
            torch.autograd.grad(getattr(each, name).square().sum(), weight, retain_graph=True)[0]
            for each in (found, whole)
        ]
        close(*both)
