"""Photographs at their own size: crops, masks, the training, and the command from a picture to its files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren import load
from hypersiren.cli.main import main
from hypersiren.completion.photographs.bank import PhotographBank
from hypersiren.completion.photographs.masks import CONTEXTS, context_mask, training_mask
from hypersiren.completion.photographs.study import windowed_field
from hypersiren.completion.photographs.task import PhotographObjective, Photographs, batch_of, cut_crops
from hypersiren.fields.raster import raster
from hypersiren.hypernets.inpainter import Inpainter
from hypersiren.signals.sets.sources import DatasetError

TINY = ["--widths", "8,8,8,8", "--blocks", "1,1,1,1", "--components", "0", "--crops", "40", "--side", "64",
        "--pixels", "32", "--batch_size", "2", "--steps", "4", "--validate_every", "4", "--device", "cpu"]  # fmt: skip


def run(capsys, *words) -> tuple[int, str]:
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code or 0
    out = capsys.readouterr()
    return code, out.out + out.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for i in range(4):
        low = random.integers(0, 255, (8 + i, 9, 3)).astype(np.uint8)
        Image.fromarray(low).resize((100, 90), Image.Resampling.BICUBIC).save(root / f"{i}.png")
    Image.fromarray(low).save(root / "small.png")
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "windows"
    main(["train", "--config", "windows", "--data.root", str(folder), *TINY, "--out", str(out)])
    return out


def test_crops_are_cut_at_the_photographs_own_size(folder):
    crops = cut_crops(folder, "train", 40, 64, 0.0, 0)
    assert crops.pixels.shape == (40, 64, 64, 3)
    photographs = [np.asarray(Image.open(folder / f"{i}.png")) for i in range(4)]
    strips = {p[i, j : j + 64].tobytes() for p in photographs for i in range(90) for j in range(37)}
    assert all(crop[0].tobytes() in strips for crop in crops.pixels.numpy())
    assert any("no picture" in line or "notes.txt" in line for line in crops.skipped)
    with pytest.raises(DatasetError, match="expected photographs of at least 128 pixels, found none"):
        cut_crops(folder, "train", 40, 128, 0.0, 0)


def test_masks_are_what_their_names_say():
    for name, share in zip(CONTEXTS, (0.1, 0.2, 0.5), strict=False):
        assert abs(context_mask(name, (50, 40)).double().mean() - share) < 1e-3
    lines = ~context_mask("scratches", (128, 192), 3)
    assert 0.01 < lines.double().mean() < 0.3
    assert torch.equal(context_mask("text", (64, 99), 3), context_mask("text", (64, 99), 3))
    with pytest.raises(ValueError, match="expected a share"):
        context_mask("holes", (8, 8))
    generator = torch.Generator().manual_seed(0)
    shares = [training_mask(32, 0.03, 0.9, 0.3, 24, generator).double().mean().item() for _ in range(60)]
    assert min(shares) < 0.1
    assert max(shares) > 0.8


def test_a_batch_is_filled_in_from_its_known_pixels_and_the_loss_falls():
    task = Photographs(
        torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8).repeat(20, 4, 4, 1), batch_size=4, pixels=16
    )
    batch = task.sample(torch.Generator().manual_seed(0))
    known = batch.known.unsqueeze(1).expand_as(batch.y)
    assert torch.equal(batch.y[known], batch.filled[known])
    model = Inpainter((8, 8, 8, 8), (1, 1, 1, 1))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(24):
        terms = task.loss(model, task.sample(torch.Generator().manual_seed(step)))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        losses.append(terms["colour"].item())
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


def banked(crops, bank: int = 4) -> PhotographObjective:
    task = Photographs(crops, crops, batch_size=3, pixels=32)
    model = Inpainter((8, 8, 8, 8), (1, 1, 1, 1), components=4)
    generator = torch.Generator().manual_seed(0)
    model.mixture.fit(task.windows(2000, 8, generator), 2, generator)
    return PhotographObjective(model, task, bank=bank)


def test_a_bank_has_the_posteriors_of_its_crops_however_they_are_turned(folder):
    objective = banked(cut_crops(folder, "train", 8, 64, 0.0, 0))
    bank = objective.bank
    mean, logarithm = objective.model.posterior(bank.filled.float(), bank.known)
    assert torch.allclose(mean, bank.mean.float(), atol=4e-3)
    assert torch.allclose(logarithm[:, :2], bank.logarithm.float(), atol=0.1)
    batch = objective.sample(torch.Generator().manual_seed(0), 0.0)
    assert batch.y.shape == batch.mean.shape == batch.logarithm.shape == (3, 3, 32, 32)
    known = batch.known[:, None].expand_as(batch.y)
    assert torch.allclose(batch.y[known], batch.filled[known], atol=1e-3)
    # Turned or not, and whatever the order of the channels, the values of a part are those of its crop.
    levels = [
        part.sum().item()
        for each in bank.mean.float()[:, 0]
        for part in each.unfold(0, 32, 1).unfold(1, 32, 1).flatten(0, 1)
    ]
    for part in batch.mean:
        assert min(abs(part[0].sum().item() - level) for level in levels) < 0.05
    # The order of the channels is a rotation of the chromas.
    generator = torch.Generator().manual_seed(3)
    turned = [bank.sample(1, 64, generator) for _ in range(6)]
    lengths = [each.y[:, 1:].square().sum().item() for each in turned]
    crops = bank.y.float()[:, 1:].square().sum((1, 2, 3)).tolist()
    assert all(min(abs(a - b) for b in crops) < 1e-2 * max(crops) for a in lengths)


def test_a_bank_is_kept_for_a_run_that_is_resumed(folder, tmp_path):
    crops = cut_crops(folder, "train", 8, 64, 0.0, 0)
    first = banked(crops)
    first.folder = tmp_path
    made = first.bank
    again = banked(crops)
    again.folder = tmp_path
    again.model.load_state_dict(first.model.state_dict())
    again.task.draw = None  # it is not made again
    assert torch.equal(again.bank.mean, made.mean)
    assert PhotographBank.read(tmp_path / "bank.safetensors", "another mixture") is None
    (tmp_path / "bank.safetensors").write_bytes(b"broken")
    assert PhotographBank.read(tmp_path / "bank.safetensors", "") is None


def test_judged_crops_keep_their_posteriors_while_the_mixture_is_the_same(folder, monkeypatch):
    objective = banked(cut_crops(folder, "train", 8, 64, 0.0, 0))
    task, model = objective.task, objective.model
    expected = task.evaluate(model)
    other = task.errors(model, task.validation.spread(12), "20%")
    assert torch.equal(task.errors(model, task.judged, "20%"), other)
    calls = []
    posterior = model.posterior
    monkeypatch.setattr(model, "posterior", lambda *given: calls.append(0) or posterior(*given))
    assert task.evaluate(model) == expected
    assert not calls
    model.mixture.factor.mul_(1.5)
    assert task.evaluate(model) != expected
    assert calls


def test_the_calibration_covers_nine_tenths_of_the_validation_values():
    task = Photographs(torch.randint(0, 256, (30, 64, 64, 3), dtype=torch.uint8), batch_size=4, pixels=32)
    model = Inpainter((8, 8, 8, 8), (1, 1, 1, 1))
    task.calibrate(model)
    found = torch.cat([task.surprises(model, task.validation, name) for name in CONTEXTS])
    assert abs((found < 1.6449).double().mean() - 0.9) < 0.03


def test_a_trained_run_completes_a_photograph_at_its_own_size(trained, folder, capsys, tmp_path):
    metrics = json.loads((trained / "completion" / "metrics.json").read_text())
    assert set(metrics["psnr"]) == {"hypersiren", "linear", "cubic", "biharmonic"}
    photo = folder / "0.png"
    code, _said = run(capsys, "complete", trained, photo, "--context", "10%", "--samples", 2, "--out", tmp_path)
    assert code == 0
    names = ("completed", "deviation", "sample_1", "sample_2", "panel")
    made = {name: np.asarray(Image.open(tmp_path / f"0_{name}.png")) for name in names}
    truth = np.asarray(Image.open(photo))
    assert made["completed"].shape == made["sample_1"].shape == truth.shape
    assert made["deviation"].shape[:2] == truth.shape[:2]
    kept = (made["completed"] == truth).all(-1)
    assert 0.09 < kept.mean() < 0.2
    assert (made["sample_1"][kept & (made["deviation"] == 0)] == truth[kept & (made["deviation"] == 0)]).all()


def test_a_run_may_start_from_another(trained, folder, capsys, tmp_path):
    words = (
        "train",
        "--config",
        "windows",
        "--data.root",
        folder,
        *TINY,
        "--training.lr",
        "1e-9",
        "--out",
        tmp_path / "b",
    )
    assert run(capsys, *words, "--network.start", trained)[0] == 0
    before, after = (load(path).network.state_dict() for path in (trained, tmp_path / "b"))
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    code, said = run(capsys, *words[:-1], tmp_path / "c", "--network.start", trained, "--network.widths", "8,8,8,16")
    assert code == 2
    assert "expected a model of photographs of the same size" in said


def test_masks_sizes_and_gray_pictures(trained, folder, capsys, tmp_path):
    gray = Image.open(folder / "1.png").convert("L")
    gray.save(tmp_path / "gray.png")
    mask = np.full((90, 100), 255, np.uint8)
    mask[20:50, 30:60] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ("complete", trained, tmp_path / "gray.png", "--mask", tmp_path / "mask.png", "--out", tmp_path)
    assert run(capsys, *words)[0] == 0
    completed = Image.open(tmp_path / "gray_completed.png")
    assert completed.mode == "L"
    assert completed.size == (100, 90)
    assert (np.asarray(completed)[mask > 0] == np.asarray(gray)[mask > 0]).all()
    assert run(capsys, *words, "--size", "45")[0] == 0
    assert Image.open(tmp_path / "gray_completed-2.png").size == (50, 45)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--context", "0%"], "expected --context above 0% and below 100%, got 0%"),
        (["--context", "many"], 'expected --context such as 100 or 10%, got "many"'),
        (["--context", "9001"], "expected --context of at most 9000"),
        (["--refine", "5"], "--refine is not for photographs"),
        (["--interpolate", "5"], "--interpolate is not for photographs"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(trained, folder, capsys, tmp_path, words, message):
    code, said = run(capsys, "complete", trained, folder / "0.png", *words, "--out", tmp_path / "out")
    assert code == 2
    assert message in said
    assert "Traceback" not in said


def test_inpaint_starts_from_a_completion(trained, folder, capsys, tmp_path):
    words = ("fit", "inpaint", folder / "0.png", "--start", trained, "--out", tmp_path / "fit", "--device", "cpu")
    assert run(capsys, *words)[0] == 0
    assert json.loads((tmp_path / "fit" / "history.json").read_text())[-1]["validation/psnr"] > 15
    assert (tmp_path / "fit" / "fit.png").exists()
    code, said = run(capsys, *words[:4], "faces", "--out", tmp_path / "other")
    assert code == 2
    assert "expected a model of photographs" in said


def test_the_field_of_a_completion_has_its_pixels(folder):
    picture = torch.from_numpy(np.asarray(Image.open(folder / "2.png")).copy()).float() / 255
    found = Inpainter((8, 8, 8, 8), (1, 1, 1, 1)).complete(picture, torch.rand(90, 100) < 0.5)
    field = windowed_field(found)
    assert (raster(field, (90, 100)) - (2 * found.mean - 1)).square().mean() < 1e-2
    assert raster(field, (180, 200)).shape == (180, 200, 3)


def test_a_mixture_completes_better_than_the_first_guess(folder):
    crops = cut_crops(folder, "train", 40, 64, 0.0, 0)
    task = Photographs(crops, crops, pixels=64)
    model = Inpainter((8, 8, 8, 8), (1, 1, 1, 1), components=8).eval()
    assert model.mixture is not None
    generator = torch.Generator().manual_seed(0)
    model.mixture.fit(task.windows(4000, 8, generator), 4, generator)
    first = Inpainter((8, 8, 8, 8), (1, 1, 1, 1)).eval()
    few = crops.spread(4)
    assert task.errors(model, few, "50%").mean() < task.errors(first, few, "50%").mean()


def test_the_released_model_completes_a_photograph_better_than_its_mixture_alone(capsys, tmp_path):
    import skimage.data

    picture = skimage.data.chelsea()[100:164, 120:200]
    Image.fromarray(picture).save(tmp_path / "cat.png")
    words = ("complete", "photographs", tmp_path / "cat.png", "--context", "20%", "--samples", 1, "--out", tmp_path)
    assert run(capsys, *words)[0] == 0
    completed, truth = (np.asarray(Image.open(tmp_path / f"{n}.png")) / 255 for n in ("cat_completed", "cat"))
    assert -10 * np.log10(((completed - truth) ** 2).mean()) > 24
    # A photograph that neither its mixture nor its network was trained on.
    model, truth = load("photographs").eval(), torch.from_numpy(skimage.data.chelsea()[60:188, 120:248]).float() / 255
    ratios = []
    for name in ("10%", "20%", "50%", "scratches"):
        known = context_mask(name, truth.shape[:2], 1)
        batch = batch_of(truth[None], known[None])
        before, after, _ = batch.completed_by(model)
        errors = [((each - batch.y) * ~known).square().mean() for each in (before, after)]
        ratios.append(float(errors[1] / errors[0]))
    assert np.mean(ratios) < 0.985
    assert max(ratios) < 1.01
    found = model.complete(truth, known)
    assert torch.allclose(found.mean[known], truth[known], atol=1e-5)
