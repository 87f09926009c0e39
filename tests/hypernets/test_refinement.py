"""Refinement: each signal by itself, on what is known of it alone."""

import pytest
import torch

from hypersiren import Context, Siren
from hypersiren.fields.operators import value_and_gradient
from hypersiren.hypernets.refine import refine


def predicted(b=3, width=8):
    torch.manual_seed(0)
    siren = Siren(2, 1, width, 1, 5.0, 5.0)
    return siren, siren.bind({n: p + 0.01 * torch.randn(b, *p.shape) for n, p in siren.named_parameters()})


def test_it_comes_nearer_to_what_is_known():
    _, field = predicted()
    known = Context.from_rasters(torch.rand(3, 6, 6, 1), torch.rand(3, 6, 6) < 0.5)
    error = lambda f: ((f(known.x) - known.y).square().squeeze(-1) * known.mask).sum()  # noqa: E731
    refined = refine(field, known, steps=100, lr=1e-2, prior="none")
    assert error(refined) < 0.2 * error(field)
    assert not any(p.requires_grad for p in refined.params.values())


def test_a_batch_equals_a_loop_and_unknown_values_have_no_influence():
    siren, field = predicted()
    images, mask = torch.rand(3, 6, 6, 1), torch.rand(3, 6, 6) < 0.5
    together = refine(field, Context.from_rasters(images, mask), steps=5, lr=1e-3)
    for i in range(3):
        one = siren.bind({name: p[i : i + 1] for name, p in field.params.items()})
        hidden = torch.where(mask[i : i + 1, ..., None], images[i : i + 1], torch.nan)
        alone = refine(one, Context.from_rasters(hidden, mask[i : i + 1]), steps=5, lr=1e-3)
        for name, p in alone.params.items():
            torch.testing.assert_close(together.params[name][i : i + 1], p, rtol=1e-3, atol=1e-5)


def test_shared_weights_become_each_signals_own_and_the_model_stays_as_it_is():
    siren, field = predicted()
    before = {name: p.clone() for name, p in siren.named_parameters()}
    last = {name: p for name, p in field.params.items() if name.startswith("layers.2")}
    known = Context.from_rasters(torch.rand(3, 6, 6, 1), torch.ones(3, 6, 6, dtype=torch.bool))
    refined = refine(siren.bind(last), known, steps=3, lr=1e-3, prior="hessian", weight=1e-3)
    assert refined.params["layers.0.weight"].shape == (3, 8, 2)
    assert not torch.equal(refined.params["layers.0.weight"][0], refined.params["layers.0.weight"][1])
    assert all(torch.equal(p, before[name]) for name, p in siren.named_parameters())


def test_no_steps_change_nothing():
    _, field = predicted()
    known = Context.from_rasters(torch.rand(3, 6, 6, 1), torch.ones(3, 6, 6, dtype=torch.bool))
    assert torch.equal(refine(field, known, steps=0)(known.x), field(known.x))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("prior", ["tv", "hessian"])
def test_signals_of_any_dimension_are_refined(dimensions, prior):
    torch.manual_seed(0)
    siren = Siren(dimensions, 1, 8, 1, 5.0, 5.0)
    field = siren.bind({n: p + 0.01 * torch.randn(2, *p.shape) for n, p in siren.named_parameters()})
    known = Context(torch.rand(2, 20, dimensions) * 2 - 1, torch.rand(2, 20, 1), torch.ones(2, 20, dtype=torch.bool))
    refined = refine(field, known, steps=50, lr=1e-2, prior=prior, weight=1e-3)
    error = lambda f: (f(known.x) - known.y).square().mean()  # noqa: E731
    assert error(refined) < 0.8 * error(field)


def test_surfaces_are_refined_in_values_and_normals():
    torch.manual_seed(0)
    siren = Siren(3, 1, 16, 1, 4.0, 4.0)
    field = siren.bind({n: p.expand(2, *p.shape) for n, p in siren.named_parameters()})
    normals = torch.nn.functional.normalize(torch.randn(2, 30, 3), dim=-1)
    known = Context(0.5 * normals, normals, torch.ones(2, 30, dtype=torch.bool), surface=True)
    refined = refine(field, known, steps=200, lr=1e-2)
    for values, slopes in (value_and_gradient(refined, known.x),):
        assert values.abs().mean() < 0.05
        assert (slopes.squeeze(-2) - normals).norm(dim=-1).mean() < 0.3
    with pytest.raises(ValueError, match="expected normals of 3 numbers and a field of 1 value"):
        refine(field, Context(known.x, known.y[..., :2], known.mask, surface=True), steps=1)


def test_nothing_known_changes_nothing_without_a_prior():
    _, field = predicted()
    known = Context(torch.rand(3, 4, 2), torch.full((3, 4, 1), torch.nan), torch.zeros(3, 4, dtype=torch.bool))
    refined = refine(field, known, steps=3, lr=1e-2, prior="none")
    torch.testing.assert_close(refined.params, field.params)
