"""The network that corrects the posterior of a picture: nothing at first, no further than its reach."""

import pytest
import torch
from torch import Tensor

from hypersiren.hypernets.inpainter import Inpainter
from hypersiren.hypernets.picture_network import PictureNetwork


def drawn(network: PictureNetwork) -> PictureNetwork:
    """The network with random weights, also where they begin at zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


def case(side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    guess, mean = torch.rand(2, 1, 3, side, side, generator=generator)
    return guess, mean, -3 + torch.rand(1, 3, side, side, generator=generator), torch.ones(1, side, side) > 0


def test_untrained_it_changes_nothing():
    guess, mean, logarithm, known = case(16)
    y, after = PictureNetwork((4, 8, 8, 8), (1, 1, 1, 1))(guess, mean, logarithm, known)
    assert torch.equal(y, mean)
    assert torch.equal(after, logarithm[:, [0, 1, 2]])


@pytest.mark.parametrize("blocks", [(1, 1, 1, 1), (2, 1, 0, 1)])
@pytest.mark.parametrize("place", [128, 131, 135])
def test_a_pixel_depends_on_those_within_reach_alone(blocks, place):
    network = drawn(PictureNetwork((3, 3, 3, 3), blocks)).double()
    guess, mean, logarithm, known = (each.double() if each.is_floating_point() else each for each in case(256))
    mean.requires_grad_()
    network(guess, mean, logarithm, known)[0][0, :, place, place].sum().backward()
    rows, columns = (mean.grad[0].abs().sum((0, axis)).nonzero().flatten() for axis in (2, 1))
    furthest = max(int((each - place).abs().max()) for each in (rows, columns))
    assert furthest <= network.reach
    assert furthest > network.reach - 12  # else windows would be larger than they need be


def test_four_levels_are_expected():
    with pytest.raises(ValueError, match="expected four widths and numbers of blocks, got 3 and 3"):
        Inpainter((8, 8, 8), (1, 1, 1))
