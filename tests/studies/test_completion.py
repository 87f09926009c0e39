"""The completion task, its contexts, its table and pictures, and a user's photographs."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren.completion.images.baselines import GaussianConditional, PrincipalAxes
from hypersiren.completion.images.photos import (
    complete_photo,
    photo_deviation,
    photo_pair,
    photo_panel,
    read_photo,
    sample_photo,
    scaled_deviation,
)
from hypersiren.completion.images.pictures import context_completion_truth, known_pixels
from hypersiren.completion.images.settings import ContextSampling
from hypersiren.completion.images.study import (
    completion_picture,
    interpolation_picture,
    latent_line,
    line_title,
    metrics,
    outside_picture,
    samples_picture,
    whole,
)
from hypersiren.completion.images.task import Completion, available_contexts, context_masks
from hypersiren.completion.prediction import completed, prediction, render_deviation, render_fields, render_samples
from hypersiren.completion.table import OURS, PRIOR, Table, completion_table, log_likelihood, shortened
from hypersiren.errors import UserError
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.full import FullHypernet
from hypersiren.hypernets.model import HyperSiren, build
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import read_image
from hypersiren.signals.sets.disk import DiskPixels
from hypersiren.signals.sets.images import ImageSet

pytestmark = pytest.mark.painted


def on_disk(images: ImageSet, folder) -> ImageSet:
    np.save(folder / f"{len(images)}.npy", images.pixels.numpy())
    return ImageSet(DiskPixels(folder / f"{len(images)}.npy"), images.name)


def images(m=12, h=10, w=8, c=1, seed=0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return ImageSet(torch.randint(0, 256, (m, h, w, c), generator=generator, dtype=torch.uint8), "test")


def model(c=1):
    torch.manual_seed(0)
    return build({"hidden_features": 8}, {"kind": "set", "hidden_features": 8}, {"kind": "full"}, channels=c)


def task(**arguments) -> Completion:
    sampling = arguments.pop("sampling", "uniform")
    context = ContextSampling(fewest=3, most=60, sampling=sampling, blocks=0)
    return Completion(images(), images(seed=1), context, **({"batch_size": 50} | arguments))


@pytest.mark.parametrize("sampling", ["uniform", "log_uniform", "bernoulli"])
@pytest.mark.parametrize("target_points", [None, 17])
def test_samples_are_pixels_of_the_images(sampling, target_points):
    made = task(sampling=sampling, target_points=target_points)
    pixels = {tuple(p.flatten().tolist()) for p in made.train.images(torch.arange(12))}
    batch = made.sample(torch.Generator().manual_seed(0))
    context = batch.context
    counts = context.mask.sum(1)
    assert context.size == (10, 8)
    if sampling != "bernoulli":  # exact numbers over the whole range, without replacement
        assert counts.min() >= 3
        assert counts.max() <= 60
        assert len(counts.unique()) > 15
        for x, mask in zip(context.x, context.mask, strict=True):
            assert len(x[mask].unique(dim=0)) == mask.sum()
    full = Completion(images(), images(), ContextSampling(fewest=80, most=80), batch_size=50).sample(
        torch.Generator().manual_seed(0)
    )
    assert {tuple(y.flatten().tolist()) for y in full.y} <= pixels
    if target_points is None:
        assert batch.x.shape == (80, 2)
        at = {tuple(x.tolist()): i for i, x in enumerate(batch.x)}
        for i in range(0, 50, 7):  # context values are the target's at the same coordinates
            for x, y in zip(context.x[i][context.mask[i]], context.y[i][context.mask[i]], strict=True):
                assert torch.equal(batch.y[i, at[tuple(x.tolist())]], y)
    else:
        assert batch.x.shape == (50, 17, 2)
        assert batch.y.shape == (50, 17, 1)


def test_log_uniform_counts_are_log_uniform():
    made = Completion(images(), images(), ContextSampling(fewest=1, most=63), batch_size=4000)
    counts = made.sample(torch.Generator().manual_seed(0)).context.mask.sum(1)
    for low in (1, 2, 4, 8, 16, 32):
        share = ((counts >= low) & (counts < 2 * low)).float().mean().item()
        assert share == pytest.approx(1 / 6, abs=0.03)


def test_the_same_seed_draws_the_same_batch():
    made = task(augmentation={"flip": True, "shift": 1})
    a, b = (made.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a.context.y, b.context.y)
    assert torch.equal(a.context.mask, b.context.mask)
    assert not torch.equal(a.y, made.sample(torch.Generator().manual_seed(6)).y)


def test_a_perfect_field_has_no_error_and_a_constant_one_the_error_of_its_constant():
    made = task()
    truth = made.validation.images(torch.arange(12)).flatten(1, 2)
    assert all(error < 1e-12 for error in made.evaluate(lambda context: lambda x: truth).values())
    found = made.evaluate(lambda context: lambda x: torch.full_like(truth, 7.0))  # clipped to white
    expected = ((made.validation.pixels.float() / 255 - 1) ** 2).mean().item()
    assert found["mse"] == pytest.approx(expected, rel=1e-5)
    assert set(found) == {"mse", "mse_10", "mse_half", "mse_full"}


def test_context_masks():
    masks = context_masks(images(), ["10", "half", "full"])
    assert (masks["10"].flatten(1).sum(1) == 10).all()
    assert len({tuple(m.flatten().tolist()) for m in masks["10"]}) == 12
    assert masks["half"][:, :5].all()
    assert not masks["half"][:, 5:].any()
    assert masks["full"].all()
    fewer = context_masks(images(m=4), ["10"])["10"]
    assert torch.equal(fewer, masks["10"][:4])  # an image keeps its context in a smaller set
    for bad in ("0", "81", "most", "-3"):
        with pytest.raises(ValueError, match="from 1 to 80"):
            context_masks(images(), [bad])
    assert available_contexts((32, 32)) == ["10", "100", "1000", "half", "full"]


def test_complete_in_batches_equals_at_once():
    made, mask, found = model(), context_masks(images(), ["10"])["10"], []
    for points in (70, 160, 100000):
        task = Completion(images(), images())
        task.points = points
        found.append(task.complete(made.field, images(), mask))
    chunks, parts, whole = found
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chunks, whole, rtol=1e-4, atol=1e-4)


def table_of(made, train, validation, test, *, prior=None, **options) -> Table:
    task = Completion(train, validation)
    task.test = test
    models = {OURS: made} | ({} if prior is None else {PRIOR: prior})
    return completion_table(task, models, **options)


def test_table_has_every_method_and_says_how_many_images():
    table = table_of(model(), images(m=30), images(seed=1), images(seed=2), most=5)
    methods = ["hypersiren", "Gaussian", "mean colour", "nearest pixel", "linear", "biharmonic"]
    assert list(table.rows) == [*methods, "PCA of all pixels, 59 numbers"]  # 60 images have 59 axes
    assert all(set(table.rows[method]) == {"10", "half", "full"} for method in methods)
    assert set(table.rows["PCA of all pixels, 59 numbers"]) == {"full"}
    assert list(table.unknown) == methods
    assert all(set(row) == {"10", "half"} for row in table.unknown.values())
    assert table.rows["linear"]["full"] == 0
    assert table.rows["hypersiren"]["full"] > 0
    assert table.coverage == {}
    assert "12 test images (baselines, and the choice of *: the first 5)" in str(table)
    few = ImageSet(images(seed=2).pixels[:5], "few")
    alone = table_of(model(), images(m=30), images(seed=1), few)
    assert table.blocks[0].first == pytest.approx(alone.rows["hypersiren"], rel=1e-4)
    assert str(table).count("  first 5") == 2
    assert "  first" not in str(alone)
    assert "in the 90 % interval" not in str(table)


def test_the_table_of_sets_on_disk_is_that_of_sets_in_memory(tmp_path):
    held = images(m=30), images(m=9, seed=1), images(m=12, seed=2)
    tables = [table_of(solving(), *sets, most=5) for sets in (held, [on_disk(part, tmp_path) for part in held])]
    assert tables[0] == tables[1]
    assert (completion_picture(solving(), held[2]) == completion_picture(solving(), on_disk(held[2], tmp_path))).all()


def test_baselines_take_bytes_as_they_take_values():
    pixels = smooth(40).pixels
    values, few, mask = pixels.float() / 255, smooth(3, seed=9).unit, torch.rand(3, 10, 8) < 0.3
    for fit in (GaussianConditional, lambda of: GaussianConditional(of, axes=4)):
        assert torch.equal(fit(pixels)(few, mask, 1e-3), fit(values)(few, mask, 1e-3))
    for numbers in (7, 30):
        assert torch.equal(PrincipalAxes(pixels, numbers)(few), PrincipalAxes(values, numbers)(few))


def test_table_counts_all_pixels_and_unknown_ones_and_marks_the_best():
    """A model that says 0.5 everywhere, against what it must then have."""
    made, test = model(), images(seed=2)
    with torch.no_grad():
        for parameter in made.hypernet.parameters():
            parameter.zero_()  # all weights 0
    table = table_of(made, images(m=30), images(seed=1), test)
    error = (test.unit - 0.5).square()
    masks = context_masks(test, ["10", "half"])
    for name, mask in masks.items():
        assert table.rows["hypersiren"][name] == pytest.approx(error.mean().item(), rel=1e-5)
        expected = (error.squeeze(-1) * ~mask).mean().item()
        assert table.unknown["hypersiren"][name] == pytest.approx(expected, rel=1e-5)
        assert table.unknown["linear"][name] == table.rows["linear"][name]
    assert metrics(table)["psnr_unknown"]["hypersiren"]["half"] == pytest.approx(-10 * np.log10(expected), abs=1e-4)
    text = str(table)
    title = "unknown pixels only (known ones put back)"
    assert f"{-10 * np.log10(expected):.1f}" in text.splitlines()[text.splitlines().index(title) + 2]
    for block in table.blocks:
        for name in ("10", "half"):
            lowest = min(row[name] for row in block.rows.values() if name in row)
            assert [block.rows[method][name] for method in block.best[name]] == [lowest]
    pca = "PCA of all pixels, 59 numbers"
    assert table.blocks[0].best["full"] == [pca]  # interpolations keep what is known: that is no merit
    assert f"{table.rows[pca]['full']:.4f}*" in text
    assert text.count("*") == 2 + 1 + 2 + 1  # one for each column, and its explanation
    assert text.count("kept\n") == 5  # of the Gaussian and the four interpolations


def solving(c=1, noise=1e-3, spread=1.0) -> HyperSiren:
    """An untrained model whose prior is that of some images."""
    torch.manual_seed(0)
    siren = Siren(2, c, hidden_features=(16, 64), first_omega=15.0, hidden_omega=10.0)
    made = HyperSiren(None, None, siren, LastLayerSolve(64, noise=noise)).requires_grad_(False)
    made.adapter.spread[0] = math.log(spread)
    made.adapter.set_prior(made.siren, [smooth(60, c=c).images(torch.arange(60))])
    return made


def smooth(m=12, h=10, w=8, c=1, seed=3) -> ImageSet:
    """Random images of few frequencies, all of one Gaussian distribution."""
    small = torch.randn(m, c, 3, 3, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, (h, w), mode="bilinear", align_corners=True).movedim(1, -1)
    return ImageSet((127.5 + 40 * large).clamp(0, 255).byte(), "smooth")


def test_the_posterior_has_its_coverage_and_the_prior_its_row():
    made, test = solving(), smooth(40, seed=4)
    table = table_of(made, smooth(60), smooth(seed=5), test, prior=solving(spread=3.0))
    assert list(table.rows)[:2] == ["hypersiren", "prior alone"]
    assert set(table.coverage) == set(table.likelihood) == {"hypersiren", "prior alone"}
    assert set(table.blocks[0].changes) == set(table.rows["hypersiren"])
    assert "  change to the prior alone, %" in str(table)
    assert set(table.coverage["hypersiren"]) == {"10", "half"}
    task, mask = Completion(test, test), context_masks(test, ["10"])["10"]
    images, deviation = completed(made, task, test, mask)
    inside = (images - test.unit.flatten(1, 2)).abs() <= 1.645 * deviation
    share = 100 * inside[~mask.flatten(1)].float().mean().item()
    assert table.coverage["hypersiren"]["10"] == pytest.approx(share, abs=1e-3)
    assert 60 < table.coverage["hypersiren"]["10"] < 99
    assert table.coverage["prior alone"]["10"] > table.coverage["hypersiren"]["10"]  # three times as wide
    assert table.numbers == 65
    assert "65 numbers per image" in str(table)
    task.points = 90
    chunks = completed(made, task, test, mask)
    torch.testing.assert_close((images, deviation), chunks, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampling", ["uniform", "log_uniform", "bernoulli"])
def test_a_batch_may_be_known_alike(sampling):
    context = ContextSampling(fewest=3, most=30, sampling=sampling, blocks=0.5, alike=True)
    task = Completion(smooth(20), smooth(5), context, batch_size=4)
    generator = torch.Generator().manual_seed(0)
    known = [task.sample(generator).context for _ in range(20)]
    for drawn in known:
        assert drawn.shared_points
        assert drawn.compact().shared_points
        assert drawn.y.shape[0] == 4
    assert not all(torch.equal(drawn.y[0], drawn.y[1]) for drawn in known)
    assert len({int(drawn.mask.sum()) for drawn in known}) > 5  # other pixels in other batches


def test_the_logarithm_weighs_every_image_alike():
    task = Completion(smooth(8), smooth(4), batch_size=4, log=0.5)
    batch = task.sample(torch.Generator().manual_seed(0))
    errors = torch.tensor([0.5, 0.1, 0.01, 0.0]).view(4, 1, 1)
    terms = task.loss(lambda x: batch.y + errors, batch)
    torch.testing.assert_close(terms["mse"], errors.square().mean())
    torch.testing.assert_close(terms["log"], 0.5 * (errors.square() + 1e-4).log().mean())


def test_principal_axes_equal_the_textbook():
    data = images(m=30, h=4, w=3, c=2).unit  # more images than values
    for train, numbers in ((data, 5), (data[:9], 5), (data[:9], 24)):
        flat = train.flatten(1).double()
        v = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][: min(numbers, len(train) - 1)]
        other = images(m=4, h=4, w=3, c=2, seed=9).unit
        expected = flat.mean(0) + (other.flatten(1) - flat.mean(0)) @ v.T @ v
        axes = PrincipalAxes(train, numbers)
        assert axes.numbers == len(v)
        torch.testing.assert_close(axes(other).flatten(1), expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("zoom", [1, 2, 4, 9])
def test_nobody_takes_unknown_pixels_for_gray(c, zoom):
    shown, mask = images(c=c), context_masks(images(c=c), ["10"])["10"]
    picture = known_pixels(shown.unit, mask, (10 * zoom, 8 * zoom))
    assert picture.shape == (12, 10 * zoom, 8 * zoom, 3)
    cells = picture.unflatten(2, (8, zoom)).unflatten(1, (10, zoom)).movedim(2, 3).flatten(3, 4)  # (12, 10, 8, z^2, 3)
    known, unknown = cells[mask], cells[~mask]
    torch.testing.assert_close(known, shown.unit[mask][:, None].expand(-1, zoom**2, 3))
    assert ((unknown.amax(-1) - unknown.amin(-1)) > 0.1).all()  # no gray
    tones = unknown.flatten(0, 1).unique(dim=0)
    assert len(tones) == 2
    assert (tones[0] - tones[1]).abs().max() > 0.15
    if zoom > 1:  # both tones within every unknown pixel
        assert (unknown.amax(1) != unknown.amin(1)).any(-1).all()
    other = torch.where(mask[..., None], shown.unit, 0.123)
    assert torch.equal(known_pixels(other, mask, (10 * zoom, 8 * zoom)), picture)
    rows = context_completion_truth(shown.unit, mask, shown.unit)
    assert rows.shape[0] > 12 * 12 * 10  # twelvefold: about 128 pixels; and the titles of the columns
    assert rows.shape[1] > 3 * 12 * 8
    assert 0 <= rows.min() <= rows.max() <= 1


def test_the_summary_names_contexts():
    task = Completion(smooth(20), smooth(9))
    [row] = task.summary(solving().field)
    assert [plot.title for plot in row.values()] == ["From 10 pixels", "From the upper half", "From all pixels"]


def test_pictures_of_a_posterior_show_deviation_and_samples(photo):
    made, test = solving(3), smooth(c=3)
    plain, shown = completion_picture(model(3), test, rows=2, zoom=6), completion_picture(made, test, rows=2, zoom=6)
    assert shown.shape[1] > plain.shape[1] + 3 * 48  # a column more for each of three contexts
    picture = samples_picture(made, test, count=3, rows=2, zoom=8)
    assert picture.shape[1] > (1 + 3 + 2) * (64 + 4)
    assert not np.array_equal(picture, samples_picture(made, test, count=3, rows=2, zoom=8, seed=1))
    read = read_photo(photo, (10, 8), 3, context=20)
    deviation = photo_deviation(made, read, (40, 32))
    assert deviation.shape == (40, 32, 1)
    context = read.context
    variance = made.predict(context).posterior.variance(context.x[:1]).view(10, 8, 3)
    torch.testing.assert_close(photo_deviation(made, read, (10, 8))[..., 0], variance[..., 0].sqrt() / 2)
    white, gray = scaled_deviation(deviation[None])
    assert 0.9 < gray.max() <= 1
    assert float(white.removeprefix("white: ")) == pytest.approx((deviation.max() / gray.max()).item(), rel=1e-4)
    panel = photo_panel(read, complete_photo(made, read, (40, 32)), deviation)
    assert panel.shape[1] > 4 * (32 + 4)
    samples = sample_photo(made, read, 5, (40, 32))
    assert samples.shape[1] > 7 * (32 + 4)
    with pytest.raises(UserError, match="--samples needs a model"):
        samples_picture(model(3), test)


def test_samples_have_mean_and_deviation_of_the_posterior():
    found = prediction(solving(), Context.from_images(smooth(2).images(torch.arange(2)), torch.rand(2, 10, 8) < 0.2))
    samples = render_samples(found.posterior, 400, (10, 8))
    assert samples.shape == (2, 400, 10, 8, 1)
    torch.testing.assert_close(samples.mean(1), render_fields(found.field, (10, 8)), rtol=0, atol=0.06)
    torch.testing.assert_close(samples.std(1), render_deviation(found.posterior, (10, 8)), rtol=0.3, atol=0.03)


def test_interpolations_say_when_they_are_cross_fades():
    # In double precision: weights so large make much of the rounding, which differs between processors.
    values = smooth().images(torch.arange(2)).double()
    pair = Context.from_images(values, torch.ones_like(values[..., 0], dtype=torch.bool))
    x = torch.rand(30, 2, dtype=torch.float64) * 2 - 1
    siren = Siren(2, 1, 8)
    last = {name: siren.shapes[name] for name in siren.last()}
    linear = HyperSiren(SetEncoder(3, 8), FullHypernet(last, 8, 8, hidden_layers=0), siren)
    # Scaled up, or the weights hardly depend on z.
    nonlinear = HyperSiren(SetEncoder(3, 8), FullHypernet(siren.shapes, 8, 8), siren)
    both = HyperSiren(SetEncoder(3, 8), nonlinear.hypernet, Siren(2, 1, 8), LastLayerSolve(8))
    with torch.no_grad():
        for hypernet in (linear.hypernet, nonlinear.hypernet):
            for head in hypernet.heads:
                head.weight *= 300
    found = {}
    for made in (linear, nonlinear, both, solving()):
        made.requires_grad_(False).double()
        values, ends = latent_line(made, pair, 5)(x), made.field(pair)(x)
        assert values.shape == (5, 30, 1)
        torch.testing.assert_close(values[[0, -1]], ends, rtol=1e-3, atol=1e-3)
        found[made] = line_title(made, pair)
        middle = (values[2] - ends.mean(0)).abs().max() / (ends[0] - ends[1]).abs().max()
        assert (middle < 1e-2) == bool(found[made])
    assert list(found.values()) == ["cross-fade (linear in z)", "", "", "cross-fade of weights"]
    pair = whole(ImageSet(smooth().pixels[:2], ""))
    pictures = [interpolation_picture(made.float(), [pair], (20, 16), 3) for made in found]
    assert pictures[0].shape[0] > pictures[1].shape[0]  # a title
    assert (pictures[3][:15] < 100).any()


def test_pictures_have_the_right_size_and_are_not_empty():
    made, test = model(3), images(c=3)
    pair = ImageSet(test.pixels[:2], "")
    pictures = [
        (completion_picture(made, test, rows=2, zoom=20), 200, 7 * (160 + 4) + 4),
        (interpolation_picture(made, [whole(pair)] * 2, (60, 48), 4), 60, 4 * (48 + 4) + 4),
        (outside_picture(made, pair, pixels=60), 60, 2 * (60 + 4) + 4),
    ]
    for picture, high, width in pictures:
        titles = picture.shape[0] - 2 * (high + 4) - 4
        assert 12 < titles < 32
        assert picture.shape[1:] == (width, 3)
        assert (picture[:titles] < 100).any()
    assert pictures[0][0].std() > 10


@pytest.fixture
def photo(tmp_path):
    """A picture 60 wide and 40 high: red left half, blue right half, green top and bottom borders."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = pixels[:, 30:, 2] = 200
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_photo_is_cropped_in_the_centre_and_averaged(photo):
    made = read_photo(photo, (8, 8), 3)
    unit = (made.values[0] + 1) / 2 * 255
    assert made.mask.all()
    torch.testing.assert_close(unit[:, :3], torch.tensor([200.0, 0, 0]).expand(8, 3, 3), rtol=0, atol=4)
    torch.testing.assert_close(unit[:, 5:], torch.tensor([0.0, 0, 200]).expand(8, 3, 3), rtol=0, atol=4)
    expected = torch.from_numpy(read_image(photo, size=(8, 8))).float()
    torch.testing.assert_close(unit, expected, rtol=0, atol=1e-3)
    assert read_photo(photo, (8, 12), 1).values.shape == (1, 8, 12, 1)
    few = [read_photo(photo, (8, 8), 3, context=9, seed=s).mask for s in (0, 0, 1)]
    assert few[0].sum() == 9
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])


def test_a_mask_image_keeps_unknown_pixels_out_of_the_averages(photo, tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :33] = 255  # three of the five columns of picture pixels in model column 4
    Image.fromarray(mask).save(tmp_path / "mask.png")
    made = read_photo(photo, (8, 8), 3, mask=tmp_path / "mask.png")
    assert made.mask[0, :, :5].all()
    assert not made.mask[0, :, 5:].any()
    torch.testing.assert_close(made.values[0, 0, 4], torch.tensor([-1.0, -1, 200 / 127.5 - 1]), rtol=0, atol=1e-3)
    few = read_photo(photo, (8, 8), 3, mask=tmp_path / "mask.png", context=5)
    assert few.mask.sum() == 5
    assert not few.mask[0, :, 5:].any()


def test_wrong_and_empty_masks_are_refused(photo, tmp_path):
    Image.new("L", (60, 41), 255).save(tmp_path / "large.png")
    with pytest.raises(
        SignalError, match=r"expected a mask of the picture's 60x40 pixels \(width x height\), got 60x41"
    ):
        read_photo(photo, (8, 8), 3, mask=tmp_path / "large.png")
    Image.new("L", (60, 40), 0).save(tmp_path / "black.png")
    with pytest.raises(SignalError, match="no pixel is known"):
        read_photo(photo, (8, 8), 3, mask=tmp_path / "black.png")


def test_a_photo_is_completed_at_any_size(photo):
    made, read = model(3), read_photo(photo, (8, 8), 3, context=20)
    small, large = complete_photo(made, read, (8, 8)), complete_photo(made, read, (72, 72))
    assert large.shape == (72, 72, 3)
    torch.testing.assert_close(large[4::9, 4::9], small, rtol=1e-3, atol=1e-3)  # the same cell centres
    wide = complete_photo(made, read, (24, 24), extent=3.0)
    torch.testing.assert_close(wide[8:16, 8:16], small, rtol=1e-3, atol=1e-3)
    panel = photo_panel(read, large)
    assert panel.shape[1] > 3 * (72 + 4)
    middle = (panel.shape[1] - 72) // 2  # three columns, the second in the middle
    np.testing.assert_allclose(panel[-76:-4, middle : middle + 72], (large * 255).round().numpy(), atol=1)
    pair = photo_pair(read, read_photo(photo, (8, 8), 3, context=30))
    row = interpolation_picture(made, [pair], (72, 72), 5)
    assert row.shape[1] == 5 * (72 + 4) + 4
    np.testing.assert_allclose(row[-76:-4, 4:76], (large * 255).round().numpy(), atol=1)


def test_a_prior_cut_to_its_leading_axes_has_as_many_numbers_and_more_error():
    torch.manual_seed(0)
    data = Completion(smooth(60, c=3), smooth(20, c=3, seed=7))
    siren = Siren(2, 3, hidden_features=(16, 200))
    model = HyperSiren(None, None, siren, LastLayerSolve(200))
    model.set_prior(data.prior_signals(0, 1))
    whole = data.case(data.validation, data.mask(data.validation, "full"))
    errors = []
    for numbers in (3, 30, 150):
        cut = shortened(model, numbers)
        assert int(cut.adapter.factor.any(0).sum()) == numbers // 3
        errors.append(data.error(whole, whole.complete(cut.field(whole.context))).mean().item())
    errors.append(data.error(whole, whole.complete(model.field(whole.context))).mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[-1]


def test_the_likelihood_of_a_point_is_that_of_a_gaussian():
    error, deviation = torch.randn(2, 5, 3), torch.rand(2, 5, 3) + 0.1
    found = log_likelihood(error, deviation)
    truth = torch.distributions.Normal(0, (deviation.square() + 1e-5).sqrt()).log_prob(error).sum(-1)
    torch.testing.assert_close(found, truth)
