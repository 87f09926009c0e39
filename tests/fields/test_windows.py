"""Windows: weights that sum to 1 and are smooth, local coordinates, rasters that keep step, steps that are chosen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.fields.windows import Windows, choose_steps, smooth_step


@settings(max_examples=40, deadline=None)
@given(
    count=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    overlap=st.floats(0.01, 0.5),
    upper=st.floats(1.0, 1.5),
    lower=st.sampled_from([-1.0, -1.25]),
    seed=st.integers(0, 2**31),
)
def test_weights_sum_to_1_and_points_lie_in_their_windows(count, overlap, upper, lower, seed):
    windows = Windows(tuple(count), overlap, upper, lower)
    x = torch.rand(50, len(count), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    index, place, factors = windows.locate(x, order=2)
    weights = torch.stack([axis[0] for axis in factors]).prod(0)
    assert (weights.sum(1) - 1).abs().max() < 1e-12
    for order in (1, 2):  # so the derivatives sum to 0, along each axis
        for axis, other in ((axis, factors[:d] + factors[d + 1 :]) for d, axis in enumerate(factors)):
            derived = axis[order] * torch.stack([f[0] for f in other] or [torch.ones_like(axis[0])]).prod(0)
            assert derived.sum(1).abs().max() < 1e-9 * max(1.0, axis[order].abs().max().item())
    assert weights.min() >= 0
    assert ((index >= 0) & (index < len(windows))).all()
    assert (place[weights > 0].abs() <= 1 + 1e-9).all()
    for row, windows_there in zip(index.tolist(), (weights > 0).tolist(), strict=True):
        there = [i for i, counts in zip(row, windows_there, strict=True) if counts]
        assert len(set(there)) == len(there), "a window counts twice"


def test_the_first_and_last_windows_reach_the_ends():
    windows = Windows((3, 2), (0.25, 0.1), (1.0, 1.2))
    assert windows.width == pytest.approx((2 / 2.5, 2.2 / 1.9))
    ends = [(n - 1) * s + w - 1 for n, s, w in zip(windows.count, windows.step, windows.width, strict=True)]
    assert ends == pytest.approx([1.0, 1.2])
    _, place, _ = windows.locate(torch.tensor([[-1.0, -1.0]], dtype=torch.float64))
    assert place[0, 0].tolist() == pytest.approx([-1, -1])


def test_the_step_has_no_slope_at_its_ends():
    t = torch.linspace(0, 1, 1001, dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(smooth_step(t).sum(), t, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), t)[0]
    assert torch.allclose(smooth_step(t, 1), first)
    assert torch.allclose(smooth_step(t, 2), second)
    assert smooth_step(t, 1)[[0, -1]].abs().max() == 0
    assert smooth_step(t, 2)[[0, -1]].abs().max() < 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "at least one window"),
        (((0, 2),), "at least one window"),
        (((2,), 0.0), "above 0 and at most 0.5"),
        (((2,), 0.51), "above 0 and at most 0.5"),
        (((2,), float("nan")), "above 0 and at most 0.5"),
        (((2,), 0.1, -1.0), "expected upper above lower"),
        (((2,), 0.1, 1.0, float("nan")), "expected upper above lower"),
        (((2, 2), (0.1,)), "for each of 2 axes"),
    ],
)
def test_a_bad_choice_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Windows(*arguments)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 5000), step=st.integers(1, 300), share=st.floats(0.0, 0.5))
def test_chosen_windows_cover_the_signal_with_little_beyond(length, step, share):
    lap = max(1, min(step, int(share * step)))
    chosen, count = choose_steps(length, lap, step)
    assert chosen >= 1
    assert count >= 1
    covered = count * chosen + lap
    assert covered >= length
    if count > 1:
        assert lap <= chosen <= max(lap, step + step // 8)
        assert covered - chosen < length, "the last window lies beyond the signal"
