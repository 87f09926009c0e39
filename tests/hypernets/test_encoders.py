"""Encoders: counts of the paper, what may and may not change the latent, any height and width."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.hypernets.context import Context, rasterise
from hypersiren.hypernets.encoders.conv_encoder import ConvEncoder
from hypersiren.hypernets.encoders.paper_encoder import PaperConvEncoder, PartialConv2d
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.encoders.token_encoder import TokenEncoder

torch.manual_seed(0)
ENCODERS = {
    "set": SetEncoder(2 + 3, latent_features=32, hidden_features=32),
    "set_relu": SetEncoder(2 + 3, latent_features=32, hidden_features=32, activation="relu"),
    "conv": ConvEncoder(3, latent_features=32, widths=(8, 16), basis=12),
    "paper": PaperConvEncoder(3, latent_features=16, size=(8, 8)),
    "partial": PaperConvEncoder(3, latent_features=16, size=(8, 8), partial=True),
    "tokens": TokenEncoder(3, (6, 4), token_features=8, widths=(8, 16)),
}
each_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())


def example(h=12, w=8, share=0.3, signals=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = 2 * torch.rand(signals, h, w, 3, generator=generator) - 1
    mask = torch.rand(signals, h, w, generator=generator) < share
    mask[:, 0, 0] = True
    return Context.from_rasters(images, mask)


def weights(module):
    return sum(p.numel() for p in module.parameters())


def macs(module, context):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(context)
    return counter.get_total_flops() / 2


def test_counts_of_the_paper():
    assert weights(SetEncoder(2 + 3)) == 198_912
    paper = PaperConvEncoder(3, mask_channel=False)
    assert weights(paper) == 13_474_817
    context = example(32, 32, signals=1)
    assert macs(paper, context) == pytest.approx(13.8e9, rel=0.01)
    assert macs(ConvEncoder(3), context) < 0.1 * 13.8e9


@each_encoder
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_order_of_the_context_changes_nothing(encoder, seed):
    context = example(seed=seed)
    order = torch.randperm(context.x.shape[1], generator=torch.Generator().manual_seed(seed))
    permuted = Context(context.x[:, order], context.y[:, order], context.mask[:, order], context.size)
    torch.testing.assert_close(encoder(permuted), encoder(context), rtol=1e-4, atol=1e-5)


@each_encoder
@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan")])
def test_points_masked_out_change_nothing(encoder, junk):
    """Dropping them, doubling them, or filling them with anything, even with NaN."""
    context = example()
    z = encoder(context)
    y = torch.where(context.mask.unsqueeze(-1), context.y, junk)
    torch.testing.assert_close(encoder(Context(context.x, y, context.mask, context.size)), z, rtol=1e-4, atol=1e-5)
    doubled = Context(
        torch.cat([context.x, context.x], 1),
        torch.cat([context.y, torch.full_like(context.y, junk)], 1),
        torch.cat([context.mask, torch.zeros_like(context.mask)], 1),
        context.size,
    )
    torch.testing.assert_close(encoder(doubled), z, rtol=1e-4, atol=1e-5)


@each_encoder
def test_duplicating_every_point_changes_nothing(encoder):
    context = example()
    twice = Context(*(torch.cat([t, t], 1) for t in (context.x, context.y, context.mask)), context.size)
    torch.testing.assert_close(encoder(twice), encoder(context), rtol=1e-4, atol=1e-5)


@each_encoder
def test_observed_values_matter_also_dark_ones(encoder):
    """A known pixel differs from an unknown one, whatever its value (the reference lost known dark pixels)."""
    for value in (-1.0, 0.0, 1.0):
        images = torch.full((1, 12, 8, 3), value)
        few, many = torch.zeros(2, 1, 12, 8, dtype=torch.bool)
        few[0, 3, 3] = many[0, 2:9, 2:7] = True
        with_few = encoder(Context.from_rasters(images, few))
        other = images.clone()
        other[0, 3, 3] -= 0.5
        assert (encoder(Context.from_rasters(other, few)) - with_few).abs().max() > 1e-5
        if not isinstance(encoder, SetEncoder):  # a mean over equal points may well be position dependent only
            assert (encoder(Context.from_rasters(images, many)) - with_few).abs().max() > 1e-5


@each_encoder
@pytest.mark.parametrize(("h", "w"), [(64, 64), (48, 32), (7, 5)])
def test_any_height_and_width(encoder, h, w):
    z = encoder(example(h, w))
    tokens = [encoder.tokens] if isinstance(encoder, TokenEncoder) else []
    assert z.shape == (2, *tokens, encoder.latent_features)
    assert z.isfinite().all()


@each_encoder
def test_an_empty_context_gives_a_finite_latent_and_gradient(encoder):
    context = example()
    z = encoder(Context(context.x, context.y, torch.zeros_like(context.mask), context.size))
    z.sum().backward()
    assert z.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_rasterise_restores_the_image_and_averages_points_in_one_pixel():
    context = example()
    image, mask = rasterise(context)
    torch.testing.assert_close(mask.flatten(1).bool(), context.mask)
    torch.testing.assert_close(image.flatten(2).mT, torch.where(context.mask.unsqueeze(-1), context.y, 0))
    x, y = torch.tensor([[[0.4, 0.4], [0.6, 0.6]]]), torch.tensor([[[1.0], [3.0]]])
    image, mask = rasterise(Context(x, y, torch.ones(1, 2, dtype=torch.bool), (2, 2)))
    assert image.flatten().tolist() == [0, 0, 0, 2]
    assert mask.flatten().tolist() == [0, 0, 0, 1]


def test_a_context_without_raster_is_refused_by_the_convolutional_encoders():
    context = example()
    with pytest.raises(ValueError, match="size None"):
        ENCODERS["conv"](Context(context.x, context.y, context.mask))


def test_partial_convolution_equals_the_formula_pixel_by_pixel():
    conv = PartialConv2d(2, 3, 3, padding=1)
    x = torch.randn(1, 2, 5, 6)
    mask = (torch.rand(1, 1, 5, 6) < 0.3).float()
    y, seen = conv(x, mask)
    for i in range(5):
        for j in range(6):
            total, count = torch.zeros(3), 0
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < 5 and 0 <= j + dj < 6 and mask[0, 0, i + di, j + dj]:
                        total += conv.weight[:, :, di + 1, dj + 1] @ x[0, :, i + di, j + dj]
                        count += 1
            expected = 9 / count * total + conv.bias if count else torch.zeros(3)
            torch.testing.assert_close(y[0, :, i, j], expected, rtol=1e-4, atol=1e-5)
            assert seen[0, 0, i, j] == (count > 0)


def test_position_weights_keep_the_sum_at_other_sizes():
    """A constant feature map gives about the same latent at twice the resolution."""
    encoder = ENCODERS["paper"]
    small, large = encoder._position_weights(8, 8), encoder._position_weights(16, 16)
    torch.testing.assert_close(small.sum(), large.sum(), rtol=0.05, atol=0.02)
