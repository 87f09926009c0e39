"""WindowedSiren and CompactWindows: jets against autograd, no jump at seams, one window is a Siren, save and load."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hypersiren
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.siren import Siren
from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.training import checkpoints
from tests.fields.test_jets import PIECES, close

GRIDS = {1: (5,), 2: (4, 3), 3: (2, 3, 2)}
KINDS = ("last", "all", "compact")


def example(kind="last", dimensions=2, count=None, overlap=0.3, upper=1.1, seed=0):
    torch.manual_seed(seed)
    siren = Siren(dimensions, 2, 8, 1, 3.0, 3.0)
    count = count or GRIDS[dimensions]
    if kind == "compact":
        field = CompactWindows(siren, count, overlap, upper, counts=(8, 3))
    else:
        field = WindowedSiren(siren, count, overlap, upper, own=kind)
    field = field.double()
    with torch.no_grad():
        for p in field.parameters():
            p += 0.3 * torch.randn_like(p)
    return field


def edges(field, axis):
    """Where windows begin and end along an axis, within [-1, 1]."""
    w = field.windows
    places = [
        place
        for i in range(w.count[axis])
        for place in (-1 + i * w.step[axis], -1 + i * w.step[axis] + w.lap[axis], -1 + i * w.step[axis] + w.width[axis])
    ]
    return [place for place in places if -1 <= place <= 1]


def interesting(field):
    """Random points, points on seams and on the corners where several meet, and the ends."""
    d = field.in_features
    x = torch.rand(12, d, dtype=torch.float64) * 2 - 1
    by_axis = [torch.tensor(edges(field, a), dtype=torch.float64) for a in range(d)]
    seams = []
    for axis, places in enumerate(by_axis):
        some = torch.rand(len(places), d, dtype=torch.float64) * 2 - 1
        some[:, axis] = places
        seams.append(some)
    corners = torch.stack([places[torch.arange(8) * 5 % len(places)] for places in by_axis], -1)
    ends = torch.stack([-torch.ones(d), torch.ones(d)]).double()
    return torch.cat([x, *seams, corners, ends])


def oracle(field, x):
    """Every piece of the jet by automatic differentiation, with graphs to the weights."""
    x = x.clone().requires_grad_()
    value = field(x)
    dimensions, channels = range(x.shape[1]), range(value.shape[1])
    gradient = torch.stack([torch.autograd.grad(value[:, c].sum(), x, create_graph=True)[0] for c in channels], 1)
    second = [
        [torch.autograd.grad(gradient[:, c, d].sum(), x, create_graph=True)[0] for d in dimensions] for c in channels
    ]
    hessian = torch.stack([torch.stack(rows, 1) for rows in second], 1)
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    pieces = {"value": value, "gradient": gradient, "hessian": hessian}
    return {**pieces, "hessian_diagonal": diagonal, "laplacian": diagonal.sum(-1)}


def more(field, signals):
    """Weights of many signals around the field's own."""
    return {name: p.detach() + 0.1 * torch.randn(signals, *p.shape).double() for name, p in field.named_parameters()}


@pytest.mark.parametrize("dimensions", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_jets_equal_autograd_at_random_points_seams_and_corners(kind, dimensions):
    field = example(kind, dimensions)
    x = interesting(field)
    expected = oracle(field, x)
    for second, piece in PIECES.items():
        jet = field.jet(x, second=second)
        for name in filter(None, ("value", "gradient", piece)):
            close(getattr(jet, name), expected[name])
        assert field.jet(x, first=False, second=second).gradient is None
    close(field(x), expected["value"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("second", PIECES)
def test_gradients_of_jets_by_the_weights_equal_autograd(kind, second):
    field = example(kind)
    x = interesting(field)[::3]
    names, weights = zip(*field.named_parameters(), strict=True)
    jet = field.jet(x, second=second)
    expected = oracle(field, x)
    for name in filter(None, ("value", "gradient", PIECES[second])):
        factors = torch.randn_like(expected[name])
        found = torch.autograd.grad((getattr(jet, name) * factors).sum(), weights, retain_graph=True, allow_unused=True)
        truth = torch.autograd.grad((expected[name] * factors).sum(), weights, retain_graph=True, allow_unused=True)
        for each, a, b in zip(names, found, truth, strict=True):
            # A bias or an offset that no derivative sees.
            close(*(torch.zeros(field.shapes[each]).double() if g is None else g for g in (a, b)), tolerance=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", GRIDS)
@pytest.mark.parametrize("own_points", [False, True])
def test_many_signals_equal_each_alone(kind, dimensions, own_points):
    field = example(kind, dimensions)
    params = more(field, 3)
    x = torch.rand(*(3,) * own_points, 20, dimensions, dtype=torch.float64) * 2 - 1
    jet = field.jet(x, params, second="full")
    values = field(x, params)
    bound = field.bind(params)(x)
    for b in range(3):
        alone = {name: p[b] for name, p in params.items()}
        expected = field.jet(x[b] if own_points else x, alone, second="full")
        close(values[b], expected.value)
        close(bound[b], expected.value)
        for name in ("value", "gradient", "hessian"):
            close(getattr(jet, name)[b], getattr(expected, name))


def test_some_weights_of_many_signals_are_enough():
    for kind, name in (("last", "layers.1.weight"), ("last", "layers.2.weight"), ("compact", "mix")):
        field = example(kind)
        x = torch.rand(9, 2).double()
        some = {name: more(field, 3)[name]}
        values = field(x, some)
        assert values.shape == (3, 9, 2)
        for b in range(3):
            close(values[b], field(x, {name: some[name][b]}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", GRIDS)
def test_nothing_jumps_across_seams(kind, dimensions):
    field = example(kind, dimensions)
    for axis in range(dimensions):
        places = torch.tensor([p for p in edges(field, axis) if abs(p) < 1 - 1e-6], dtype=torch.float64)
        x = (torch.rand(len(places), dimensions, dtype=torch.float64) * 2 - 1).repeat(3, 1)
        x[:, axis] = torch.cat([places - 1e-13, places, places + 1e-13])
        jet = field.jet(x, second="laplacian")
        for piece in (jet.value, jet.gradient, jet.laplacian):
            before, at, after = piece.chunk(3)
            assert (before - at).abs().max() < 1e-9 * max(1.0, piece.abs().max().item())
            assert (after - at).abs().max() < 1e-9 * max(1.0, piece.abs().max().item())


@pytest.mark.parametrize("own", ["last", "all"])
def test_one_window_is_a_siren_to_the_bit(own):
    siren = Siren(2, 3, 16)
    field = WindowedSiren(siren, (1, 1), own=own)
    x = torch.rand(500, 2) * 2 - 1
    assert torch.equal(field(x), siren(x))
    jet, plain = field.jet(x, second="laplacian"), siren.jet(x, second="laplacian")
    close(jet.laplacian, plain.laplacian, 1e-5)
    close(jet.gradient, plain.gradient, 1e-5)


def test_windows_begin_with_the_weights_of_the_siren_and_blend_to_it_where_all_agree():
    """Last layers of zeros and equal biases are one constant, however windows are laid."""
    siren = Siren(2, 1, 8).double()
    with torch.no_grad():
        siren.layers[-1].weight.zero_()
        siren.layers[-1].bias.fill_(0.7)
    field = WindowedSiren(siren, (5, 3), overlap=0.5)
    assert field.layers[0].weight.equal(siren.layers[0].weight)
    jet = field.jet(interesting(field), second="full")
    close(jet.value, torch.full_like(jet.value, 0.7), 1e-12)
    assert jet.gradient.abs().max() < 1e-10
    assert jet.hessian.abs().max() < 1e-8
    assert next(siren.parameters()).device.type == "cpu", "the SIREN that was given is left alone"


@settings(max_examples=25, deadline=None)
@given(
    count=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    overlap=st.floats(0.05, 0.5),
    points=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
)
def test_values_are_the_weighted_sum_of_the_windows(count, overlap, points, kind, seed):
    """Against a loop over windows and points that knows nothing of batches."""
    field = example(kind, len(count), tuple(count), overlap, upper=1.0, seed=seed)
    x = torch.rand(points, len(count), dtype=torch.float64) * 2 - 1
    w = field.windows
    total = torch.zeros(points, 2, dtype=torch.float64)
    own = dict(field.named_parameters())
    one = torch.zeros(1, dtype=torch.long)
    for t in range(len(w)):
        index = [int(i) for i in torch.unravel_index(torch.tensor(t), w.count)]
        weight = torch.ones(points, dtype=torch.float64)
        local = torch.empty_like(x)
        for d, i in enumerate(index):
            begin = -1 + i * w.step[d]
            local[:, d] = (x[:, d] - begin) / (w.width[d] / 2) - 1
            up = ((x[:, d] - begin) / w.lap[d]).clamp(0, 1) if i > 0 else torch.ones(points)
            down = ((x[:, d] - begin - w.step[d]) / w.lap[d]).clamp(0, 1) if i < w.count[d] - 1 else torch.zeros(points)
            weight = weight * (up**3 * (up * (6 * up - 15) + 10)) * (1 - down**3 * (down * (6 * down - 15) + 10))
        weights = field.leaves(own, one + t, one)
        alone = {n: p[0] if p.ndim > len(field.template.shapes[n]) else p for n, p in weights.items()}
        total += weight.unsqueeze(1) * field.template(local, alone)
    close(field(x), total, 1e-9)


def test_coordinates_of_a_long_sound_keep_their_precision():
    """Of 5 million samples neighbours are 4e-7 apart: float32 coordinates would lose them."""
    torch.manual_seed(0)
    field = CompactWindows(Siren(1, 1, (16,), first_omega=30.0), (5000,), counts=(16,))
    with torch.no_grad():
        field.coefficients.normal_()
    x = torch.linspace(0.9, 0.9 + 2e-4, 501, dtype=torch.float64).unsqueeze(1)
    exact = field.double()(x)
    found = field.float()(x)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()
    assert (field(x.float()) - exact).abs().max() > 1e-3 * exact.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(tmp_path, kind):
    field = example(kind).float().requires_grad_(False)
    x = torch.rand(30, 2) * 2 - 1
    hypersiren.save(field, tmp_path / "field.safetensors")
    again = hypersiren.load(tmp_path / "field.safetensors")
    assert type(again) is type(field)
    assert repr(again) == repr(field)
    assert torch.equal(again(x), field(x))
    record = {"model": field.description, "settings": {}, "playback": {}}
    content = {"record": record, "ema": field.state_dict(), "metrics": {}, "step": 0, "seconds": 0.0}
    checkpoints.write(tmp_path / "last.pt", content)
    restored = checkpoints.restore(checkpoints.read(tmp_path / "last.pt"), "cpu")
    assert torch.equal(restored(x), field(x))


def test_repr_and_shapes():
    assert repr(example("all")) == (
        "WindowedSiren(4 x 3 windows that overlap by 30 %, all weights of their own: 2 -> 8 x 2 -> 2, omega 3/3)"
    )
    assert "8 + 3 numbers each" in repr(example("compact"))
    shapes = example("all").shapes
    assert shapes["layers.0.weight"] == (12, 8, 2)
    assert example("last").shapes["layers.0.weight"] == (8, 2)
    assert example("compact").shapes["coefficients"] == (12, 11)
    assert example("compact").numbers == 12 * 11 + 2 * 2 + 2


def test_the_first_layer_learns_slower():
    field = WindowedSiren(Siren(2, 1, 8, first_omega=60.0, hidden_omega=30.0), (2, 2), own="all")
    factors = field.lr_factors()
    assert set(factors.values()) == {0.5}
    assert {id(p) for p in factors} == {id(p) for p in field.layers[0].parameters()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WindowedSiren(Siren(2, 1, 8), (3,)), "along each of 2 axes"),
        (lambda: WindowedSiren(Siren(2, 1, 8), (3, 0)), "at least one window"),
        (lambda: WindowedSiren(Siren(2, 1, 8), (3, 2), overlap=0.6), "at most 0.5"),
        (lambda: CompactWindows(Siren(2, 1, 8), (3, 2), counts=(9,)), "counts of 1 to 8"),
        (lambda: CompactWindows(Siren(2, 1, 8), (3, 2), counts=(4, 0)), "counts of 1 to 8"),
        (lambda: CompactWindows(Siren(2, 1, 8), (3, 2), counts=()), "counts of 1 to 8"),
        (lambda: example()(torch.zeros(5, 3).double()), r"coordinates \(..., 2\)"),
        (lambda: example().jet(torch.zeros(5, 3).double()), r"coordinates \(..., 2\)"),
        (lambda: example()(torch.zeros(5, 2).double(), {"layers.9.weight": torch.zeros(1)}), "expected parameters"),
        (lambda: WindowedSiren(Siren(2, 1, 8), (1, 1))(torch.zeros(5, 3)), r"coordinates|shape|expected"),
    ],
)
def test_a_bad_choice_is_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_nothing_is_asked_of_no_points():
    field = example()
    assert field(torch.zeros(0, 2).double()).shape == (0, 2)
    assert field.jet(torch.zeros(0, 2).double(), second="full").hessian.shape == (0, 2, 2, 2)
    assert math.prod(field(torch.zeros(3, 0, 2).double(), more(field, 3)).shape) == 0


def test_beyond_the_ends_the_outermost_windows_go_on():
    field = example(upper=1.0, overlap=0.2)
    x = torch.tensor([[-1.2, 0.0], [1.3, 1.4]]).double()
    jet = field.jet(x, second="diagonal")
    expected = oracle(field, x)
    close(jet.value, expected["value"])
    close(jet.hessian_diagonal, expected["hessian_diagonal"])
