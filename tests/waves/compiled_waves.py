"""Run by test_waves.py: compiled residuals with their jets, traced whole, agree with the eager ones, and gradients."""

import torch

from hypersiren.fields.siren import Siren
from hypersiren.waves.initial_pulse import InitialPulse
from hypersiren.waves.media import VelocityImage
from hypersiren.waves.near_field import WithNearField
from hypersiren.waves.residuals import gaussian_sources, helmholtz_residual, split_medium, wave_residual


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [0.3, -0.2]])
    image = VelocityImage(0.5 + torch.rand(5, 7, generator=generator))

    def inversion(siren, x):
        field = WithNearField(siren, centres, variance=1e-2, radius=0.5)
        wavefields, m = split_medium(x, field.jet(x))
        return helmholtz_residual(x, wavefields, 5.0, m, gaussian_sources(x, centres, variance=1e-2))

    def wave(siren, x):
        return wave_residual(InitialPulse(siren, centres[0], variance=1e-2).jet(x), image(x[:, 1:]).rsqrt())

    for residual, dimensions, channels in [(inversion, 2, 5), (wave, 3, 1)]:
        siren = Siren(dimensions, channels, 16, 1, generator=generator)
        x = 2 * torch.rand(32, dimensions, generator=generator) - 1
        # Both are traced whole; making a program takes longest, and programs of jets have a test of their own.
        both = [f(siren, x) for f in (torch.compile(residual, fullgraph=True, backend="aot_eager"), residual)]
        assert (both[0] - both[1]).abs().max() <= 1e-5 * both[1].abs().max(), residual
        # The last bias of the wave equation's network has no gradient: derivatives only are asked for.
        weights = list(siren.parameters())[:-1]
        for a, b in zip(*(torch.autograd.grad(r.square().mean(), weights) for r in both), strict=True):
            assert (a - b).norm() <= 1e-4 * b.norm(), (residual, (a - b).norm(), b.norm())
    print("agree")


if __name__ == "__main__":
    main()
