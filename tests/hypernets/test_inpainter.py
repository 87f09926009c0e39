"""The network over windows of pictures: known pixels are kept, windows have no seams, samples agree with deviations."""

import math

import pytest
import torch
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.hypernets import inpainter, patches
from hypersiren.hypernets.inpainter import Inpainter, draw_prior, to_axes, to_picture
from hypersiren.hypernets.patches import BLUR, LEVEL, NOISE, PatchMixture


def model(seed: int = 0) -> Inpainter:
    """A small network whose last layer is not zero."""
    made = Inpainter((8, 8, 8, 8), (1, 1, 1, 1))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made.eval()


def case(h: int, w: int, channels: int = 3, share: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(h + w)
    return torch.rand(h, w, channels, generator=generator), torch.rand(h, w, generator=generator) < share


@pytest.mark.parametrize(("clear", "taken"), [(math.inf, 2), (0.0, 1)])
def test_a_mixture_is_a_posterior_of_each_window_by_itself(clear, taken, monkeypatch):
    monkeypatch.setattr(patches, "CLEAR", clear)
    generator = torch.Generator().manual_seed(0)
    mixture = PatchMixture(3, 8)
    mixture.fit(torch.randn(3, 600, 64, generator=generator).cumsum(-1) / 8, 2, generator)
    guess, known = torch.rand(1, 3, 8, 8, generator=generator), torch.rand(1, 8, 8, generator=generator) < 0.3
    mean, variance = mixture(guess, known)
    # One window: the slow formulas, component by component, for the likeliest.
    level = guess.mean((2, 3)).view(3, 1)
    y, seen = guess.view(3, 64) - level, known.view(64)
    wide = mixture.covariances.double() + torch.tensor(LEVEL).double().view(2, 1, 1, 1)
    blurred = mixture.covariances.double() + torch.tensor(BLUR).double().view(2, 1, 1, 1) * torch.eye(64)
    axes = [0, 1, 1]

    def density(x: Tensor, s: Tensor) -> Tensor:
        return torch.distributions.MultivariateNormal(torch.zeros(len(s)).double(), s).log_prob(x.double())

    likely = [mixture.logarithms[k] + sum(density(y[a], blurred[axes[a], k]) for a in range(3)) for k in range(3)]
    found, shares = [], []
    for k in torch.stack(likely).topk(taken).indices.tolist():
        each, total = [], mixture.logarithms[k].double()
        for a in range(3):
            s = wide[axes[a], k]
            system = s[seen][:, seen] + NOISE * torch.eye(int(seen.sum()))
            gain = s[:, seen] @ torch.linalg.inv(system)
            each.append((gain @ y[a, seen].double(), (s - gain @ s[seen]).diagonal()))
            total = total + density(y[a, seen], system)
        found.append(each)
        shares.append(total)
    weights = torch.stack(shares).softmax(0)
    for a in range(3):
        expected = sum(w * each[a][0] for w, each in zip(weights, found, strict=True))
        spread = sum(w * (each[a][1] + (each[a][0] - expected) ** 2) for w, each in zip(weights, found, strict=True))
        assert torch.allclose(mean[0, a].flatten().double(), expected + level[a], atol=2e-3)
        assert torch.allclose(variance[0, a].flatten().double(), spread, rtol=0.05, atol=1e-4)


def test_every_pixel_has_as_many_windows_but_at_the_edges():
    index = patches._window_index(32, 40, 8, torch.device("cpu"))
    assert len(index) == len(index.unique(dim=0))
    counts = torch.zeros(32 * 40).index_add_(0, index.flatten(), torch.ones(index.numel())).view(32, 40)
    assert (counts[8:-8, 8:-8] == 8).all()
    assert counts.min() >= 1
    # Windows of a part that begins at a multiple of 8 are those of the whole, but at its edges.
    part = patches._window_index(16, 24, 8, torch.device("cpu"))
    shifted = {(i // 24 + 8) * 40 + i % 24 + 8 for i in part[:, 0].tolist() if 0 < i % 24 < 16}
    assert shifted <= set(index[:, 0].tolist())


def test_a_mixture_takes_windows_some_at_a_time(monkeypatch):
    guess, known = case(24, 32)
    guess, known = guess.movedim(-1, 0)[None], known[None]
    whole = PatchMixture(2)(guess, known)
    monkeypatch.setattr(patches, "MANY", 50)
    for part, expected in zip(PatchMixture(2)(guess, known), whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (40, 24), (33, 65)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_keeps_what_is_known_and_does_not_look_at_the_rest(size, channels):
    picture, known = case(*size, channels)
    known[0, 0] = True
    found = model().complete(picture, known)
    other = model().complete(torch.where(known[..., None], picture, float("nan")), known)
    assert found.mean.shape == found.deviation.shape == picture.shape
    assert torch.allclose(found.mean[known], picture[known], atol=1e-5)
    assert (found.deviation[known] == 0).all()
    assert (found.deviation[~known] > 0).all()
    assert torch.equal(found.mean, other.mean)


def test_windows_give_what_the_whole_picture_gives(monkeypatch):
    picture, known = case(480, 432)
    whole = model().complete(picture, known)
    monkeypatch.setattr(inpainter, "WINDOW", 160)
    parts: list[tuple[int, int]] = []
    divided = model().complete(picture, known, progress=lambda done, total: parts.append((done, total)))
    assert parts[-1] == (9, 9)
    assert torch.allclose(whole.mean, divided.mean, atol=1e-5)
    assert torch.allclose(whole.deviation, divided.deviation, rtol=1e-3)


def test_deviations_follow_the_picture_by_one_factor():
    picture, known = case(96, 80)
    found, plain = (model().complete(picture, known, scaled=scaled) for scaled in (True, False))
    assert torch.equal(found.mean, plain.mean)
    factors = (found.deviation / plain.deviation)[~known]
    assert factors.std() < 1e-5 * factors.mean()
    assert abs(factors.mean() - 1) > 0.01


@pytest.mark.parametrize("axis", [-1, -2])
def test_the_correction_of_a_mirror_image_is_the_mirror_image_of_the_correction(axis):
    generator = torch.Generator().manual_seed(0)
    guess, mean, logarithm = torch.rand(3, 1, 3, 24, 16, generator=generator)
    known = torch.rand(1, 24, 16, generator=generator) < 0.3
    given = (guess, mean, logarithm - 4, known)
    found = model().corrected(*given)
    for one, other in zip(found, model().corrected(*(each.flip(axis) for each in given)), strict=True):
        assert torch.allclose(one, other.flip(axis), atol=1e-5)
    alone = model().network(*given)[0]
    assert (alone - found[0]).abs().max() > 1e-3  # which one image does not have


def test_samples_keep_what_is_known_and_vary_as_the_deviation_says():
    picture, known = case(48, 40, share=0.3)
    found = model().complete(0.4 + 0.2 * picture, known)
    object.__setattr__(found, "axes_deviation", 0.02 * (~known).float().expand(3, -1, -1))
    samples = torch.stack(list(found.samples(60, seed=1)))
    assert torch.allclose(samples[:, known], found.mean[known].expand(60, -1, -1), atol=1e-6)
    ratio = (samples - found.mean).square().mean(0)[~known] / 0.02**2
    assert 0.8 < ratio.mean() < 1.25
    again = next(found.samples(1, seed=1))
    assert torch.equal(again, samples[0])


def test_colours_return_from_their_axes():
    picture, _ = case(5, 6)
    assert torch.allclose(to_picture(to_axes(picture), 3), picture, atol=1e-6)
    assert torch.allclose(to_picture(to_axes(picture[..., :1]), 1), picture[..., :1], atol=1e-6)


def test_the_deviation_of_a_gray_picture_is_that_of_its_one_channel():
    picture, known = case(16, 16, 1)
    gray, colour = (model().complete(p, known).deviation for p in (picture, picture.expand(-1, -1, 3)))
    axes = model().complete(picture, known).axes_deviation
    assert torch.allclose(gray[..., 0], axes[0] / 3**0.5)
    assert (colour.mean(-1, keepdim=True) >= gray - 1e-6).all()  # the chromas are unsure too


@pytest.mark.parametrize(
    ("shape", "mask", "message"),
    [
        ((8, 8, 4), (8, 8), "expected a picture of 1 or 3 channels, got 4 (drop the opacity)"),
        ((8, 8, 3), (8, 9), "expected a mask of (8, 8) pixels, got (8, 9)"),
        ((8, 8, 3), None, "expected at least one known pixel, got none"),
    ],
)
def test_what_cannot_be_completed_is_told(shape, mask, message):
    known = torch.zeros(8, 8, dtype=torch.bool) if mask is None else torch.ones(mask, dtype=torch.bool)
    with pytest.raises(UserError) as error:
        model().complete(torch.zeros(shape), known)
    assert str(error.value) == message


def test_draws_of_the_prior_have_as_much_power_in_every_octave():
    draw = draw_prior(4, (256, 256), torch.Generator().manual_seed(0))
    power = torch.fft.fft2(draw).abs().square().mean(0)
    frequency = torch.fft.fftfreq(256) * 256
    radius = (frequency[:, None].square() + frequency[None].square()).sqrt()
    octaves = [power[(radius >= 2**j) & (radius < 2 ** (j + 1))].sum() for j in range(1, 7)]
    assert max(octaves) < 8 * min(octaves)
