"""Run by test_jets.py: compiled jets, traced whole, agree with the eager ones, pieces and gradients."""

import torch

from hypersiren.fields.jets import Jet
from hypersiren.fields.siren import Siren


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(16, 2, generator=generator) - 1
    # Channels choose the direction of the gradient; one case has a set of weights per signal.
    cases = [(None, 1, False), (None, 3, False), ("laplacian", 1, True), ("diagonal", 2, False), ("full", 1, False)]
    for second, channels, batched in cases:
        siren = Siren(2, channels, 16, 1, generator=generator)
        copies = (3,) if batched else ()
        params = {n: p.detach().expand(*copies, *p.shape).clone() for n, p in siren.named_parameters()}
        leaves = [p.requires_grad_() for p in params.values()]

        def jet(x, params, siren=siren, second=second) -> Jet:
            return siren.jet(x, params, second=second)

        # All are traced whole; making programs of them takes longest, and one has a set of weights per signal.
        backend = "inductor" if second == "laplacian" else "aot_eager"
        found = [vars(f(x, params)) for f in (torch.compile(jet, fullgraph=True, backend=backend), jet)]
        for name in found[1]:
            compiled, eager = (pieces[name] for pieces in found)
            assert (compiled is None) == (eager is None)
            if eager is not None:
                assert (compiled - eager).abs().max() <= 1e-5 * eager.abs().max(), (second, name)
        losses = [sum((y / y.detach().abs().max()).square().sum() for y in p.values() if y is not None) for p in found]
        for a, b in zip(*(torch.autograd.grad(loss, leaves) for loss in losses), strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm(), (second, (a - b).norm(), b.norm())
    print("agree")


if __name__ == "__main__":
    main()
