"""Refinement: each signal by itself, on what is known of it alone."""

import torch

from hypersiren import Context, Siren
from hypersiren.hypernets.refine import refine


def predicted(b=3, width=8):
    torch.manual_seed(0)
    siren = Siren(2, 1, width, 1, 5.0, 5.0)
    return siren, siren.bind({n: p + 0.01 * torch.randn(b, *p.shape) for n, p in siren.named_parameters()})


def test_it_comes_nearer_to_what_is_known():
    _, field = predicted()
    known = Context.from_images(torch.rand(3, 6, 6, 1), torch.rand(3, 6, 6) < 0.5)
    error = lambda f: ((f(known.x) - known.y).square().squeeze(-1) * known.mask).sum()  # noqa: E731
    refined = refine(field, known, steps=100, lr=1e-2, prior="none")
    assert error(refined) < 0.2 * error(field)
    assert not any(p.requires_grad for p in refined.params.values())


def test_a_batch_equals_a_loop_and_unknown_values_have_no_influence():
    siren, field = predicted()
    images, mask = torch.rand(3, 6, 6, 1), torch.rand(3, 6, 6) < 0.5
    together = refine(field, Context.from_images(images, mask), steps=5, lr=1e-3)
    for i in range(3):
        one = siren.bind({name: p[i : i + 1] for name, p in field.params.items()})
        hidden = torch.where(mask[i : i + 1, ..., None], images[i : i + 1], torch.nan)
        alone = refine(one, Context.from_images(hidden, mask[i : i + 1]), steps=5, lr=1e-3)
        for name, p in alone.params.items():
            torch.testing.assert_close(together.params[name][i : i + 1], p, rtol=1e-3, atol=1e-5)


def test_shared_weights_become_each_signals_own_and_the_model_stays_as_it_is():
    siren, field = predicted()
    before = {name: p.clone() for name, p in siren.named_parameters()}
    last = {name: p for name, p in field.params.items() if name.startswith("layers.2")}
    known = Context.from_images(torch.rand(3, 6, 6, 1), torch.ones(3, 6, 6, dtype=torch.bool))
    refined = refine(siren.bind(last), known, steps=3, lr=1e-3, prior="hessian", weight=1e-3)
    assert refined.params["layers.0.weight"].shape == (3, 8, 2)
    assert not torch.equal(refined.params["layers.0.weight"][0], refined.params["layers.0.weight"][1])
    assert all(torch.equal(p, before[name]) for name, p in siren.named_parameters())


def test_no_steps_change_nothing():
    _, field = predicted()
    known = Context.from_images(torch.rand(3, 6, 6, 1), torch.ones(3, 6, 6, dtype=torch.bool))
    assert torch.equal(refine(field, known, steps=0)(known.x), field(known.x))
