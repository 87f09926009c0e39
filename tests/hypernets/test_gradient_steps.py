"""GradientSteps: what a step is, each signal by itself, with and without a graph, training through the steps, files."""

from itertools import pairwise

import pytest
import torch

import hypersiren
from hypersiren.fields.local_siren import LocalSiren
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.gradient_steps import GradientSteps, masked_error
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.encoders.token_encoder import TokenEncoder, TokenHypernet
from hypersiren.hypernets.full import FullHypernet
from hypersiren.hypernets.model import HyperSiren


def example(h=6, w=5, signals=2):
    return Context.from_rasters(torch.rand(signals, h, w, 2).double(), torch.rand(signals, h, w) < 0.7)


def model(size=(1, 1), encoder=None, **kwargs):
    torch.manual_seed(0)
    siren = LocalSiren(2, 2, 16, 1, 10, 8, token_size=size, token_features=8)
    steps = GradientSteps(8, tokens=size[0] * size[1], **kwargs)
    return HyperSiren(encoder, TokenHypernet(siren.shapes), siren, steps).double()


def error(hyper, context):
    return masked_error(hyper.field(context), context)


def test_a_step_is_one_of_gradient_descent():
    hyper, context = model(steps=1, step_size=3.0), example()
    z = torch.zeros(1, 8).double().requires_grad_()
    for i in range(2):
        known = context.mask[i]
        values = hyper.siren(context.x[i][known], {"tokens": z})
        (gradient,) = torch.autograd.grad((values - context.y[i][known]).square().mean(), z)
        torch.testing.assert_close(hyper.predict(context).z[i], -3 * gradient)


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_every_step_reduces_the_error_also_without_a_graph(size):
    hyper, context, errors = model(size), example(), []
    with torch.no_grad():
        for steps in (0, 1, 3, 10, 100):
            hyper.adapter.steps = steps
            errors.append(error(hyper, context))
            assert not hyper.predict(context).z.requires_grad
    for before, after in pairwise(errors):
        assert (after < before).all()
    assert (errors[-1] < 0.75 * errors[0]).all()  # of noise, that no image is


def test_the_graph_changes_no_number():
    hyper, context = model((3, 2)), example()
    with torch.no_grad():
        without = hyper(context, context.x)
    torch.testing.assert_close(hyper(context, context.x), without)
    torch.testing.assert_close(hyper.requires_grad_(False)(context, context.x), without)


def test_batch_equals_loop_and_neither_order_nor_what_is_masked_counts():
    hyper, context = model((3, 2)), example()
    x = torch.rand(7, 2).double()
    y = hyper(context, x)
    loop = torch.cat([hyper(context.signals(slice(i, i + 1)), x) for i in range(2)])
    torch.testing.assert_close(y, loop)
    order = torch.randperm(context.x.shape[1])
    permuted = Context(context.x[:, order], context.y[:, order], context.mask[:, order])
    torch.testing.assert_close(hyper(permuted, x), y)
    junk = torch.where(context.mask.unsqueeze(-1), 0, float("nan"))
    hidden = Context(context.x + junk, context.y + junk, context.mask)
    torch.testing.assert_close(hyper(hidden, x), y)
    hyper(hidden, x).sum().backward()
    assert all(p.grad.isfinite().all() for p in hyper.parameters() if p.grad is not None)


def test_nothing_known_changes_nothing():
    hyper, context = model(), example()
    empty = Context(context.x, context.y, torch.zeros_like(context.mask))
    assert (hyper.predict(empty).z == 0).all()


def test_training_goes_through_the_steps():
    hyper, context = model(steps=2), example()
    error(hyper, context).mean().backward()
    step = hyper.adapter.log_step_size
    assert (step.grad != 0).all()
    found = step.grad[3].item()
    values = []
    for change in (1e-5, -1e-5):
        with torch.no_grad():
            step[3] += change
            values.append(error(hyper, context).mean().item())
            step[3] -= change
    assert found == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)

    optimizer = torch.optim.Adam([p for p in hyper.parameters() if p.requires_grad], 1e-3)
    before = error(hyper, context).mean()
    for _ in range(20):
        optimizer.zero_grad()
        error(hyper, context).mean().backward()
        optimizer.step()
    assert error(hyper, context).mean() < 0.8 * before


def test_starts_from_an_encoder_and_trains_it():
    hyper, context = model((3, 2), TokenEncoder(2, (3, 2), 8, widths=(8,))), example()
    start = masked_error(hyper.siren.bind(hyper.decode(hyper.encode(context))), context)
    after = error(hyper, context)
    assert (after < start).all()
    after.mean().backward()
    assert hyper.encoder.last.weight.grad.abs().max() > 0
    with torch.no_grad():
        torch.testing.assert_close(error(hyper, context), after)


def test_adapts_the_latent_of_any_hypernetwork():
    siren = Siren(2, 2, 16, 1)
    hyper = HyperSiren(None, FullHypernet(siren.shapes, 8, hidden_layers=0), siren, GradientSteps(8, step_size=0.1))
    hyper, context = hyper.double(), example()
    found = error(hyper, context)
    hyper.adapter.steps = 0
    assert (found < error(hyper, context)).all()


def test_saved_and_loaded(tmp_path):
    hyper, context = model((3, 2), steps=2).float(), example()
    context = Context(context.x.float(), context.y.float(), context.mask)
    hypersiren.save(hyper, tmp_path / "model.safetensors")
    again = hypersiren.load(tmp_path / "model.safetensors")
    assert again.adapter.steps == 2
    torch.testing.assert_close(again(context, context.x), hyper(context, context.x), rtol=0, atol=0)


def test_what_does_not_fit_is_refused_when_the_model_is_built():
    siren = LocalSiren(2, 2, 16, 1, token_size=(2, 2), token_features=8)
    hypernet = TokenHypernet(siren.shapes)
    for steps in (GradientSteps(8), GradientSteps(8, tokens=3), GradientSteps(4, tokens=4)):
        with pytest.raises(ValueError, match="as the hypernetwork takes"):
            HyperSiren(None, hypernet, siren, steps)
    for parts in (
        (None, hypernet, siren),
        (None, None, siren, GradientSteps(8)),
        (SetEncoder(4, 8, 8), None, siren, GradientSteps(8)),
        (None, hypernet, siren, hypersiren.Siren(1, 1, 8)),  # no adapter that finds its latent
    ):
        with pytest.raises(ValueError, match="expected an encoder and a hypernetwork"):
            HyperSiren(*parts)


def test_surfaces_are_met_in_values_and_normals():
    """The values of a context of surfaces are normals: the field is not to be them."""
    torch.manual_seed(0)
    siren = LocalSiren(3, 1, 16, 1, 4, 4, token_size=(1, 1, 1), token_features=8)
    hyper = HyperSiren(None, TokenHypernet(siren.shapes), siren, GradientSteps(8, steps=50, tokens=1, step_size=3.0))
    normals = torch.nn.functional.normalize(torch.randn(2, 30, 3), dim=-1)
    context = Context(0.5 * normals, normals, torch.rand(2, 30) < 0.8, surface=True)
    junk = torch.where(context.mask.unsqueeze(-1), 0, float("nan"))
    hidden = Context(context.x, context.y + junk, context.mask, surface=True)
    start, field = siren.bind({"tokens": torch.zeros(2, 1, 8)}), hyper.field(context)
    assert (masked_error(field, context) < 0.7 * masked_error(start, context)).all()
    assert (field(context.x)[context.mask].square().mean() < start(context.x)[context.mask].square().mean()).all()
    torch.testing.assert_close(hyper.field(hidden)(context.x), field(context.x))
    masked_error(field, context).sum().backward()
    assert hyper.adapter.log_step_size.grad.isfinite().all()
    with pytest.raises(ValueError, match="expected normals of 3 numbers and a field of 1 value"):
        hyper.predict(Context(context.x, context.y[..., :1], context.mask, surface=True))
