"""What a GPU does otherwise than a CPU, by rule: how exactly it convolves, how many parts a batch has, who decodes."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from hypersiren import (
    Completion,
    Context,
    ConvEncoder,
    FullHypernet,
    HyperSiren,
    Image,
    MixtureSolve,
    Siren,
    fit,
    train,
)
from hypersiren.completion.correcting import raster_pairs
from hypersiren.fields.coords import grid
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.hypernets.adapters.pairs import PairBank
from hypersiren.signals.image.filters import image_gradient, image_laplacian
from hypersiren.signals.sets import decoding
from hypersiren.signals.sets.sources import Target, folder
from hypersiren.tasks.settings import FitTraining
from hypersiren.training.monitor import Monitor
from hypersiren.training.muon import orthogonalise
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.step import TrainingStep
from tests.device.fake_cuda import Counts, FakeCuda

pytestmark = [pytest.mark.device, pytest.mark.quick]


def precision():
    return torch.backends.cudnn.conv.fp32_precision


class Watching(ConvEncoder):
    """An encoder that tells how exactly its convolutions are made: forward in training and not, and backward."""

    def __init__(self, seen):
        super().__init__(3, 8, widths=(8, 8), basis=0)
        self.seen = seen

    def forward(self, context):
        self.seen.add((self.training, precision()))
        z = super().forward(context)
        if z.requires_grad:
            z.register_hook(lambda gradient: self.seen.add(("backward", precision())))
        return z


@pytest.mark.parametrize("tf32", [False, True])
def test_convolutions_are_in_tf32_in_training_only_and_only_if_asked(tf32):
    before, seen = precision(), set()
    with FakeCuda():
        siren = Siren(2, 3, hidden_features=8)
        model = HyperSiren(Watching(seen), FullHypernet(siren.shapes, 8, 8), siren).to("cuda")
        images = torch.randint(0, 256, (8, 8, 8, 3), dtype=torch.uint8, device="cuda")
        model = train(model, Completion(images, batch_size=4), steps=2, tf32=tf32, ema=0.5).model
        assert precision() == before
        expected = "tf32" if tf32 else "ieee"
        assert seen == {(True, expected), ("backward", expected), (False, "ieee")}
        seen.clear()
        model.predict(Context.from_images(images, images[..., 0] > 99))
    assert seen == {(False, "ieee")}
    assert precision() == before


def test_derivatives_of_images_do_not_convolve():
    with FakeCuda() as cuda:
        pixels = torch.rand(9, 8, 3, device="cuda")
        for kind in ("sobel", "central", "spectral"):
            image_gradient(pixels, kind)
        for kind in ("stencil", "spectral"):
            image_laplacian(pixels, kind)
    assert "aten::mul" in cuda.counts.launches
    assert not [name for name in cuda.counts.launches if "conv" in name]


def test_muon_has_the_precision_of_the_weights():
    matrices = torch.randn(2, 8, 6)
    with FakeCuda():
        there = orthogonalise(matrices.to("cuda")).cpu()
    assert torch.equal(there, orthogonalise(matrices))


def step_with(memory, **training):
    """After one step, without waits, on a device of so many bytes."""
    with FakeCuda(memory) as cuda:
        torch.manual_seed(0)
        objective = FieldObjective(Siren(2, 1, 64).to("cuda"), Image(torch.zeros(32, 32, 1, device="cuda")))
        step = TrainingStep(objective, FitTraining(steps=1000, optimizer="adam", **training))
        cuda.counts = Counts()
        step(0, Monitor(None))
        assert not cuda.counts.waits
    return step


def test_a_batch_has_the_parts_that_the_memory_of_the_device_asks_for():
    plenty, little, less = (step_with(memory) for memory in (10**10, 2 * 10**6, 10**6))
    assert plenty.parts == 1
    assert 1 < little.parts < less.parts <= 64
    assert 32 * 32 % less.parts == 0
    for mine, other in zip(less.trained, plenty.trained, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
    assert step_with(10**6, parts=2).parts == 2


def test_a_cpu_computes_a_batch_at_once_unless_told(tmp_path):
    image = Image(torch.zeros(48, 48, 1))
    assert TrainingStep(FieldObjective(Siren(2, 1, 8), image), FitTraining(steps=1000)).parts == 1
    small = {"steps": 2, "network": {"hidden_features": 8}, "run_dir": tmp_path}
    assert not fit(image, on_log=lambda *row: True, parts=2, log_every=1, **small).finished
    assert fit(image, parts=3, log_every=1, **small).finished


def test_no_process_is_forked_that_uses_a_gpu(tmp_path, monkeypatch):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        for i in range(600 if name == "train" else 1):
            Picture.new("RGB", (6, 6), (i % 256, i // 256, 7)).save(tmp_path / name / f"{i:03}.png")
    source = folder(tmp_path, "train", seed=0)
    here = decoding.decode(source, Target((4, 4)), workers=1, progress=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(decoding, "ProcessPoolExecutor", None)
    threads = decoding.decode(source, Target((4, 4)), workers=3, progress=False)
    np.testing.assert_array_equal(here[0], threads[0])
    assert here[1] == threads[1]


def test_the_same_images_are_drawn_from_memory_and_from_disk_on_a_gpu():
    with FakeCuda() as cuda:
        task = Completion(torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8, device="cuda"), batch_size=4)
        generator = torch.Generator("cuda").manual_seed(3)
        cuda.counts = Counts()
        batch = task.sample(generator)
        assert batch.y.shape == (4, 64, 3)
        assert batch.y.device == grid((2, 2), device="cuda").device
        assert not cuda.counts.waits


def test_pairs_of_a_bank_differ_though_what_they_draw_on_the_host_leaves_the_devices_generator_as_it_is():
    with FakeCuda():
        images = torch.randint(0, 256, (40, 8, 8, 1), dtype=torch.uint8, device="cuda")
        task = Completion(images, batch_size=4, augmentation={})
        draw = partial(raster_pairs, task, fewest=5, most=30, regular=0.0, jitter=0.0)
        siren = Siren(2, 1, hidden_features=(8, 16)).to("cuda")
        solve = MixtureSolve(16, priors=2, correction=Correction(16, 1, axes=4, inputs=2, width=8)).to("cuda")
        solve.set_prior(siren, [torch.rand(20, 8, 8, 1, device="cuda")])
        drawn = []
        PairBank(siren, solve, (8, 8), lambda generator: drawn.append(draw(generator)) or drawn[-1], count=3)
        masks = {tuple(pairs.context.cells[0].cpu().tolist()) for pairs in drawn}
    assert len(drawn) == len(masks) == 3
