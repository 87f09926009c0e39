"""FullHypernet: the paper's count and initialisation; HyperSiren: batch equals loop."""

import pytest
import torch
from torch.func import functional_call

from hypersiren.fields.siren import Siren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.full import FullHypernet
from hypersiren.hypernets.model import build


def test_paper_hypernetwork_has_52436995_weights():
    assert sum(p.numel() for p in FullHypernet(Siren(2, 3).shapes).parameters()) == 52_436_995


@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_predicts_every_parameter_for_each_signal(trunk):
    siren = Siren(2, 3, 16, 2)
    params = FullHypernet(siren.shapes, 8, 12, trunk=trunk)(torch.randn(4, 8))
    assert {n: tuple(p.shape[1:]) for n, p in params.items()} == siren.shapes
    assert all(len(p) == 4 for p in params.values())


def test_at_step_0_every_signal_gets_about_the_same_sane_siren():
    torch.manual_seed(0)
    model = build({}, {"kind": "set"}, {"kind": "full"}, channels=3)
    images, mask = 2 * torch.rand(8, 16, 16, 3) - 1, torch.rand(8, 16, 16) < 0.5
    params = model.params(Context.from_rasters(images, mask))
    for name, p in params.items():
        fan_in = model.siren.shapes[name.replace("bias", "weight")][-1]
        assert p.std(dim=0).mean() < 0.1 * p.std()  # little of it depends on the image
        assert 0.3 / fan_in < p.std() < 3 / fan_in
    y = model.siren(2 * torch.rand(500, 2) - 1, params)
    assert y.abs().max() < 5
    assert y.std() > 0.01


def test_hypersiren_equals_a_loop_over_signals():
    torch.manual_seed(0)
    model = build(
        {"hidden_features": 32}, {"kind": "set"}, {"kind": "full", "hidden_features": 32}, channels=3
    ).double()
    images, mask = torch.rand(3, 8, 8, 3).double(), torch.rand(3, 8, 8) < 0.5
    context = Context.from_rasters(images, mask)
    x = torch.rand(20, 2).double()
    params = model.params(context)
    loop = [functional_call(model.siren, {n: p[i] for n, p in params.items()}, (x,)) for i in range(3)]
    torch.testing.assert_close(model(context, x), torch.stack(loop), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.field(context)(x), torch.stack(loop), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("encoder", [{"kind": "none"}, {"kind": "set"}, {"kind": "conv", "widths": (8, 8)}])
def test_in_evaluation_a_prediction_is_of_known_points_alone(encoder, monkeypatch):
    """The same as of all points; in training, batches keep their shape."""
    sizes, full = {"hidden_features": 16}, {"kind": "full", "hidden_features": 16}
    model = build(sizes, encoder, full, channels=3, adapter={"kind": "solve"})
    images, mask = 2 * torch.rand(3, 8, 8, 3) - 1, torch.rand(3, 8, 8) < 0.2
    context, seen = Context.from_rasters(images, mask), []
    solve = type(model.adapter).forward
    monkeypatch.setattr(
        type(model.adapter), "forward", lambda self, *words: seen.append(words[3].x.shape[1]) or solve(self, *words)
    )
    with torch.no_grad():
        whole, few = (model.train(training)(context, context.x) for training in (True, False))
    assert seen == [64, int(mask.flatten(1).sum(1).max())]
    torch.testing.assert_close(whole, few, rtol=1e-4, atol=1e-4)


def test_predicted_weights_are_not_trained_in_the_hypo_siren():
    model = build({"hidden_features": 8}, {"kind": "set"}, {"kind": "full"}, channels=1)
    assert not any(p.requires_grad for p in model.siren.parameters())


def test_predicting_the_last_layer_leaves_the_others_shared_and_trained():
    model = build({"hidden_features": 8}, {"kind": "set"}, {"kind": "full", "layers": 1}, channels=1)
    assert list(model.hypernet.shapes) == ["layers.4.weight", "layers.4.bias"]
    assert {n for n, p in model.siren.named_parameters() if not p.requires_grad} == set(model.hypernet.shapes)
    images, mask = torch.rand(3, 8, 8, 1), torch.rand(3, 8, 8) < 0.5
    context, x = Context.from_rasters(images, mask), torch.rand(20, 2)
    params = model.params(context)
    loop = [functional_call(model.siren, {n: p[i] for n, p in params.items()}, (x,)) for i in range(3)]
    torch.testing.assert_close(model(context, x), torch.stack(loop), rtol=1e-4, atol=1e-5)
    model(context, x).sum().backward()
    assert model.siren.layers[0].weight.grad.abs().sum() > 0
