"""Warm starts: go on from predicted weights, for each of B signals by itself, on its context.

A predicted field is the best initialisation there is. Refinement minimises, for every signal alone,

    mean over N known points of |y - f(x)|²  +  k / N · prior(f)

from theta_0, the predicted weights, where the prior is one of inpainting's (total variation or the Hessian's norm); of
a surface's points the first term is what their kind of observation says of values and normals. The more is known, the
less the prior counts, and the further a step goes: with few points the prediction knows better.
All signals are refined at once, as one batch of weights.

Symbols: B signals, N known points, P points of the prior, C channels.
"""

import torch
from torch import Tensor

from hypersiren.fields.operators import Prior, prior_energy
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.context import Context


@torch.enable_grad()
def refine(
    field: BoundSiren,
    known: Context,
    *,
    steps: int,
    lr: float | None = None,
    prior: Prior | None = None,
    weight: float = 0.3,
    prior_points: int = 256,
    seed: int = 0,
) -> BoundSiren:
    """Fit B fields further, to B signals.

    Args:
        field: Predicted fields, see `HyperSiren.field`. Weights that they share become each signal's own.
        known: What is known of each signal.
        steps: Updates by Adam, its learning rate falling to 0 along a half cosine.
        lr: First learning rate; by default 2e-7 for each known point (of their mean number), at most 2e-4.
        prior, weight: The prior and its factor k; "none" for no prior; None: total variation, and none of surfaces.
        prior_points: P random points a step, the same for all signals.
        seed: Fixes them.

    Returns:
        The refined fields, without a graph.

    Example:
        >>> from hypersiren import Siren
        >>> siren = Siren(2, 1, 8)
        >>> predicted = siren.bind({name: p.expand(4, *p.shape) for name, p in siren.named_parameters()})
        >>> known = Context.from_images(torch.rand(4, 8, 8, 1), torch.rand(4, 8, 8) < 0.5)
        >>> refine(predicted, known, steps=3)(torch.rand(10, 2)).shape
        torch.Size([4, 10, 1])
    """
    known = known.compact()
    b, prior = len(known.x), prior or known.kind.prior
    own = {**dict(field.siren.named_parameters()), **field.params}
    params = {name: p.detach().expand(b, *field.siren.shapes[name]).clone().requires_grad_() for name, p in own.items()}
    refined = field.siren.bind(params)
    mask = known.mask.unsqueeze(-1)
    x, y = (torch.where(mask, part, 0) for part in (known.x, known.y))
    number = mask.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    optimizer = torch.optim.Adam(params.values(), lr or min(2e-4, 2e-7 * number.float().mean().item()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    generator = torch.Generator(known.x.device)
    for step in range(steps):
        # A sum over signals: each has the gradient that it would have alone.
        error = torch.where(mask, known.kind.residual(refined, x, y), 0).square().mean(-1, keepdim=True)
        loss = (error / number).sum()
        if prior != "none":
            at = _points(prior_points, generator.manual_seed(seed * 1_000_003 + step), x)
            loss = loss + (weight / number.flatten() * prior_energy(refined, at, prior)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return field.siren.bind({name: p.detach() for name, p in params.items()})


def _points(count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(count, like.shape[-1], generator=generator, device=like.device, dtype=like.dtype) * 2 - 1
