"""LocalSiren: what its tokens do, jets against autograd, batch equals loop, saved and loaded."""

import pytest
import torch
from torch.nn import functional as F

import hypersiren
from hypersiren.fields.local_siren import LocalSiren
from hypersiren.fields.siren import Siren
from tests.fields.test_jets import PIECES, close, oracle


def example(dimensions=2, channels=2, token_size=(3, 2), width=6, layers=1, **kwargs):
    torch.manual_seed(0)
    siren = LocalSiren(dimensions, channels, width, layers, 7, 5, token_size=token_size, token_features=4, **kwargs)
    return siren.double()


def test_zero_tokens_change_nothing():
    local = example(generator=torch.Generator().manual_seed(1))
    plain = Siren(2, 2, 6, 1, 7, 5, generator=torch.Generator().manual_seed(1)).double()
    x = torch.rand(9, 2).double()
    close(local(x), plain(x))
    assert list(local.last()) == list(plain.last())
    assert local.shapes == {"tokens": (6, 4), "shift": (12, 4), **plain.shapes}


def test_one_token_shifts_every_phase_by_the_same():
    siren = example(token_size=(1, 1))
    token = torch.randn(1, 4).double()
    shifts = (siren.shift @ token.T).squeeze(1).split(6)
    biases = {f"layers.{i}.bias": siren.layers[i].bias + s for i, s in enumerate(shifts)}
    x = torch.rand(9, 2).double()
    close(siren(x, {"tokens": token}), siren(x, biases))


def test_a_token_counts_where_it_stands():
    siren = example(token_size=(8, 8))
    tokens = torch.zeros(64, 4).double()
    tokens[0] = 1
    changed = (siren(siren.anchors, {"tokens": tokens}) - siren(siren.anchors)).abs().sum(-1).view(8, 8)
    assert changed[0, 0] > 0.1
    assert changed[4:].max() < 1e-4
    weights = siren.token_weights(torch.rand(3, 5, 2).double())
    close(weights.sum(-1), torch.ones(3, 5).double())


@pytest.mark.parametrize(("dimensions", "token_size"), [(1, (5,)), (2, (3, 2)), (3, (2, 1, 2))])
@pytest.mark.parametrize("second", PIECES)
@pytest.mark.parametrize("signals", [0, 2])
@pytest.mark.parametrize("first", [True, False])
def test_jets_and_their_gradients_by_the_weights_equal_autograd(dimensions, token_size, second, signals, first):
    siren = example(dimensions, 2, token_size)
    batch = (signals,) if signals else ()
    params = {
        name: (
            p.detach() * (1 + 0.1 * torch.rand(*batch, *p.shape)) + (name == "tokens") * torch.randn(*batch, *p.shape)
        )
        for name, p in siren.named_parameters()
    }
    params = {name: p.double().requires_grad_() for name, p in params.items()}
    x = 2 * torch.rand(*batch, 4, dimensions).double() - 1
    found = {k: v for k, v in vars(siren.bind(params).jet(x, first=first, second=second)).items() if v is not None}
    assert set(found) == {"value", "gradient" if first else None, PIECES[second]} - {None}
    if signals:
        one = [oracle(siren, {n: p[i] for n, p in params.items()}, x[i]) for i in range(signals)]
        expected = {name: torch.stack([pieces[name] for pieces in one]) for name in found}
    else:
        expected = oracle(siren, params, x)
    for name, piece in found.items():
        close(piece, expected[name])
        weight = torch.rand(piece.shape).double()
        by_jet, by_autograd = (
            torch.autograd.grad((weight * y).sum(), list(params.values()), retain_graph=True, materialize_grads=True)
            for y in (piece, expected[name])
        )
        for a, b in zip(by_jet, by_autograd, strict=True):
            close(a, b)


@pytest.mark.parametrize("leaf", ["tokens", "shift", "layers.0.bias", "layers.1.weight"])
@pytest.mark.parametrize("own_points", [True, False])
def test_a_signal_axis_on_one_leaf_alone_is_a_loop(leaf, own_points):
    siren = example()
    params = {"tokens": torch.randn(6, 4).double()}
    own = params.get(leaf, siren.get_parameter(leaf).detach())
    params[leaf] = own * (1 + 0.1 * torch.rand(3, *own.shape).double())
    x = torch.rand(3, 5, 2).double() if own_points else torch.rand(5, 2).double()
    field = siren.bind(params)
    found = field.jet(x, second="full")
    for i in range(3):
        xi = x[i] if own_points else x
        close(field(x)[i], field.signal(i)(xi))
        alone = field.signal(i).jet(xi, second="full")
        close(found.gradient[i], alone.gradient)
        close(found.hessian[i], alone.hessian)


def test_a_signal_of_a_batch_is_a_module_that_can_be_saved(tmp_path):
    siren = example().float()
    field = siren.bind({"tokens": torch.randn(3, 6, 4)}).signal(1)
    hypersiren.save(field, tmp_path / "one.safetensors")
    again = hypersiren.load(tmp_path / "one.safetensors")
    x = torch.rand(7, 2)
    torch.testing.assert_close(again(x), field(x), rtol=0, atol=0)


def test_trains_on_its_laplacian_with_one_backward():
    siren = example()
    F.mse_loss(siren.jet(torch.rand(9, 2).double(), second="laplacian").laplacian, torch.ones(9, 2).double()).backward()
    assert siren.tokens.grad.abs().max() > 0


def test_refuses_wrong_sizes_and_names():
    with pytest.raises(ValueError, match="token_size"):
        LocalSiren(2, 1, 8, token_size=(4,))
    with pytest.raises(ValueError, match="token"):
        example()(torch.rand(3, 2), {"token": torch.rand(6, 4)})
