"""An adapter answers for itself: one from outside has a prior, a calibration and learning rates; so has an encoder."""

import pytest
import torch
from torch import nn

from hypersiren import (
    Completion,
    Context,
    FullHypernet,
    GradientSteps,
    HyperSiren,
    LastLayerSolve,
    LocalSiren,
    MixtureSolve,
    SetEncoder,
    Siren,
    TokenHypernet,
    UserError,
    load,
    savable,
    save,
    train,
)
from hypersiren.fields.last_layers import last_layer, with_last_layer
from hypersiren.hypernets.adapters.base import Prediction
from hypersiren.hypernets.encoders.conv_encoder import ConvEncoder
from hypersiren.hypernets.model import build


@savable
class Shift(nn.Module):
    """Moves the bias by the mean of what is known, as far as a prior on the mean of a signal says."""

    trains_siren = False

    def __init__(self):
        super().__init__()
        self.variance = nn.Parameter(torch.ones(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, siren, z, params, context, decode=None):
        known = context.mask.unsqueeze(-1)
        theta = last_layer(siren, params).expand(len(known), -1, -1)
        wrong = torch.where(known, context.y - siren.bind(params)(context.x), 0).sum(1) / known.sum(1).clamp(min=1)
        trust = self.variance / (self.variance + 1 / known.sum(1).clamp(min=1))
        moved = torch.cat([theta[:, :-1], theta[:, -1:] + (trust * wrong).unsqueeze(1)], 1)
        return Prediction(siren, with_last_layer(siren, params, moved), z)

    @torch.no_grad()
    def set_prior(self, siren, signals, ridge, shrinkage):
        means = torch.cat([chunk.flatten(1, -2).mean(1) for chunk in signals])
        self.variance.copy_((1 - shrinkage) * means.var() + ridge)
        weight, bias = siren.last().values()
        weight.zero_()
        bias.copy_(means.mean(0))

    @torch.no_grad()
    def calibrate(self, predict, cases):
        for context, x, y, unknown in cases:
            self.deviation.copy_((predict(context).field(x) - y)[unknown].std())

    def lr_factors(self, siren):
        return {self.variance: 0.25}


def faces():
    return Completion(torch.randint(0, 256, (30, 6, 6), dtype=torch.uint8), batch_size=4)


def test_an_adapter_from_outside_has_a_prior_a_calibration_and_learning_rates(tmp_path):
    torch.manual_seed(0)
    task, siren = faces(), Siren(2, 1, hidden_features=8)
    model = HyperSiren(None, None, siren, Shift())
    assert not any(p.requires_grad for p in siren.parameters())
    model.set_prior(task.prior_signals(copies=0, finer=1), shrinkage=0.5)
    images = torch.cat(list(task.prior_signals(copies=0, finer=1)))
    means = images.flatten(1, 2).mean(1)
    torch.testing.assert_close(model.adapter.variance.item(), 0.5 * means.var().item() + 1e-6)
    known = Context.from_rasters(torch.zeros(1, 2, 2, 1), torch.zeros(1, 2, 2, dtype=torch.bool))
    torch.testing.assert_close(model(known, torch.rand(3, 2)), means.mean().expand(1, 3, 1))  # nothing is known
    assert model.lr_factors() == {model.adapter.variance: 0.25}
    before = model.adapter.variance.item()
    trained = train(model, task, steps=2, lr=0.1, warmup=0, progress=False).model
    assert trained.adapter.variance.item() != before
    assert trained.adapter.deviation != 1
    save(trained, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.adapter.state_dict() == trained.adapter.state_dict()


def test_a_prior_starts_a_hypernetwork_from_outside_that_asks_for_it():
    class Head(nn.Module):
        latent_features, start = 4, None

        def __init__(self, siren):
            super().__init__()
            self.shapes = {name: siren.shapes[name] for name in siren.last()}

        def start_at(self, params):
            self.start = {name: p.clone() for name, p in params.items()}

        def forward(self, z):
            return {name: z.new_zeros(len(z), *shape) for name, shape in self.shapes.items()}

    siren = Siren(2, 1, hidden_features=8)
    model = HyperSiren(SetEncoder(3, 4, 4), Head(siren), siren, LastLayerSolve(8))
    model.set_prior([torch.rand(9, 5, 5, 1)])
    torch.testing.assert_close(model.hypernet.start, {name: p.detach() for name, p in siren.last().items()})


def test_a_model_without_a_prior_says_so():
    local = LocalSiren(2, 1, 8, token_size=(1, 1), token_features=4)
    steps = HyperSiren(None, TokenHypernet(local.shapes), local, GradientSteps(4, tokens=1))
    siren = Siren(2, 1, hidden_features=8)
    plain = HyperSiren(SetEncoder(3, 4, 4), FullHypernet(siren.shapes, 4, 4), siren)
    for model, name in ((steps, "GradientSteps"), (plain, "none")):
        assert not model.has_prior
        assert model.lr_factors() == {}
        with pytest.raises(UserError, match=f"expected an adapter with a prior, such as LastLayerSolve, got {name}"):
            model.set_prior([torch.rand(9, 5, 5, 1)])


def test_both_solvers_are_siblings_with_the_weights_that_old_files_have():
    assert not issubclass(MixtureSolve, LastLayerSolve)
    shapes = {name: tuple(value.shape) for name, value in LastLayerSolve(8).state_dict().items()}
    assert shapes == {"factor": (9, 9), "noise": (2,), "spread": (2,)}
    shapes = {name: tuple(value.shape) for name, value in MixtureSolve(8, priors=3, rank=4).state_dict().items()}
    assert shapes == {"factor": (3, 9, 4), "noise": (3, 2), "shares": (3,), "tempering": (), "spread": (2,)}


@pytest.mark.parametrize("kind", ["conv", "paper_conv", "tokens"])
def test_an_encoder_says_what_dimensions_it_reads(kind):
    encoder = {"kind": kind} | ({"token_size": (4, 4), "token_features": 4, "radius": 0.5} if kind == "tokens" else {})
    with pytest.raises(UserError, match=r"expected signals over 2 coordinate dimensions, which \w+ reads, got 1"):
        build({"hidden_features": 8}, encoder, {"kind": "full"}, channels=1, in_features=1)


def test_a_model_of_other_dimensions_than_its_encoder_reads_is_refused():
    siren = Siren(3, 1, hidden_features=8)
    with pytest.raises(UserError, match="which ConvEncoder reads, got 3"):
        HyperSiren(ConvEncoder(1, 8, (8,)), FullHypernet(siren.shapes, 8, 8), siren)
