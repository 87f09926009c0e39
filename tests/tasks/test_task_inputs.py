"""What a user may hand to a task: files, PIL images, arrays, tensors and meshes, all with one call of `fit`."""

import warnings
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from hypersiren.fields.coords import grid
from hypersiren.shapes.cloud import as_cloud, make_cloud
from hypersiren.shapes.knot import knot
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.opening import open_picture
from hypersiren.signals.sound.files import chime, write_sound
from hypersiren.tasks.images.image import Image
from hypersiren.tasks.images.inpaint import Inpaint
from hypersiren.tasks.images.poisson import Poisson
from hypersiren.tasks.recordings.audio import Audio
from hypersiren.tasks.recordings.video import Video
from hypersiren.tasks.registry import open_task
from hypersiren.tasks.shapes.sdf import SDF
from hypersiren.training.fit import fit

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
CORNERS = np.vstack([np.zeros(3), np.eye(3)])


@pytest.fixture
def photo(tmp_path):
    """A picture of bytes, and its file."""
    pixels = ((open_picture("astronaut", size=16) + 1) * 127.5).round().to(torch.uint8)
    PIL.Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    return pixels, tmp_path / "a.png"


def test_bytes_are_fitted_as_well_as_the_values_that_they_stand_for():
    values = open_picture("camera", size=24)
    pixels = ((values + 1) * 127.5).round().to(torch.uint8).numpy()
    results = [fit(Image(image), steps=100, network={"hidden_features": 128}).metrics for image in (pixels, values)]
    assert results[0]["psnr"] > 40
    assert results[0] == results[1]


@pytest.mark.parametrize("task", [Image, Poisson, lambda image, **words: Inpaint(image, known=None, **words)])
def test_tasks_on_pictures_take_every_kind(photo, task):
    pixels, path = photo
    expected = pixels / 127.5 - 1
    kinds = [path, str(path), PIL.Image.open(path), pixels, pixels.numpy(), expected, expected.double().numpy()]
    made = [*(task(kind) for kind in kinds), task(pixels / 255, range=(0, 1)), task(pixels.long(), range=(0, 255))]
    for each in made:
        torch.testing.assert_close(each.pixels, expected, atol=1e-6, rtol=0)
        assert each.size == (16, 16)
        assert each.out_features == 3
    with pytest.raises(SignalError, match="channels come last"):
        task(expected.permute(2, 0, 1))
    assert task("camera").size == (512, 512)


def test_known_pixels_may_be_an_array(photo):
    pixels, _ = photo
    known = np.zeros((16, 16), bool)
    known[3:5] = True
    for task in (Image(pixels, known=known), Inpaint(pixels, known=torch.from_numpy(known))):
        assert len(task.all.x) == 32
        assert torch.equal(task.known, torch.from_numpy(known))
    for wrong in (known.astype(float), torch.from_numpy(known).int(), known[1:], known.tolist()):
        with pytest.raises(SignalError, match="expected a mask"):
            Inpaint(pixels, known=wrong)


def test_a_bright_file_is_opened_without_a_word_and_once(tmp_path, monkeypatch):
    bright = np.random.default_rng(0).integers(
        130, 256, (12, 16, 3), np.uint8
    )  # all above 0, where a guess might start
    mask = np.zeros((12, 16), np.uint8)
    mask[4:8, 4:8] = 255
    for name, pixels in (("a.png", bright), ("b.png", bright[::-1].copy()), ("mask.png", mask)):
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    a, b, m = (str(tmp_path / name) for name in ("a.png", "b.png", "mask.png"))
    opened, real = [], PIL.Image.open
    monkeypatch.setattr(PIL.Image, "open", lambda path, *words: (opened.append(str(path)), real(path, *words))[1])
    cases = [
        ("image", {"path": a}, [a]),
        ("image", {"path": a, "size": 8, "share": 0.5}, [a]),
        ("poisson", {"path": a}, [a]),
        ("inpaint", {"path": a, "mask": m}, [a, m]),
        ("edit", {"source": a, "target": b}, [b, a]),
        ("edit", {"source": a, "target": b, "mask": m}, [b, a, m]),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, signal, files in cases:
            opened.clear()
            open_task(name, {"signal": signal})
            assert opened == files
        opened.clear()
        Image(a)
        assert opened == [a]


def test_a_sound_may_be_a_file_or_an_array(tmp_path):
    sound = chime(0, 0.1)
    write_sound(tmp_path / "a.wav", 0.5 * sound.wave, sound.rate)
    task = Audio(tmp_path / "a.wav")
    opened = open_task("audio", {"signal": {"path": str(tmp_path / "a.wav")}})
    assert torch.equal(task.wave, opened.wave)
    scale = pytest.approx(0.5 * abs(sound.wave).max())
    assert task.playback == opened.playback == {"kind": "sound", "rate": 16_000, "scale": scale}
    assert task.wave.abs().max() == 1
    bytes_ = np.rint(sound.wave[:, 0] * 32767).astype(np.int16)
    result = fit(Audio(bytes_, 16_000), network={"hidden_features": 32}, steps=3)
    assert np.isfinite(result.metrics["mse"])
    with pytest.raises(SignalError, match="rate"):
        Audio(bytes_)
    with pytest.raises(SignalError, match="expected no rate"):
        Audio(tmp_path / "a.wav", 16_000)
    with pytest.raises(SignalError, match=r"give wave\.T"):
        Audio(sound.wave.T, 16_000)
    with pytest.raises(SignalError, match="got -2 to 2"):
        Audio(2 * np.sign(sound.wave) * np.ones_like(sound.wave), 16_000)


def test_a_video_may_be_a_file_or_an_array(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
    np.save(tmp_path / "a.npy", frames)
    for task in (Video(tmp_path / "a.npy"), Video(frames, 25), Video(frames / 255, 25)):
        assert torch.equal(task.pixels, torch.from_numpy(frames))
        assert task.playback == {"kind": "video", "fps": 25}
    assert Video(frames[..., 0], 10).samples == (3, 6, 5)
    assert Video(frames[..., 0], 10).sample(torch.Generator()).x.shape == grid((3, 6, 5)).shape
    with pytest.raises(SignalError, match="fps"):
        Video(frames)
    with pytest.raises(SignalError, match="channels come last"):
        Video(frames.transpose(0, 3, 1, 2), 25)


def test_a_shape_may_be_points_a_file_or_a_mesh(tmp_path):
    points, normals = knot(500, 0)
    np.savez(tmp_path / "a.npz", points=points, normals=normals)
    expected = make_cloud(points, normals)
    pairs = [(points, normals), [torch.from_numpy(points), torch.from_numpy(normals).requires_grad_()]]
    for shape in (expected, tmp_path / "a.npz", str(tmp_path / "a.npz"), *pairs):
        task = SDF(shape, points=50)
        np.testing.assert_array_equal(task.cloud.points, expected.points)
        np.testing.assert_allclose(task.cloud.normals, expected.normals, atol=1e-6)
    assert as_cloud(expected) is expected
    np.testing.assert_array_equal(as_cloud((points, None)).normals, make_cloud(points).normals)
    assert as_cloud("knot", count=400).points.shape == (400, 3)

    trimesh = pytest.importorskip("trimesh")
    for mesh in (trimesh.Trimesh(CORNERS, TETRAHEDRON), SimpleNamespace(vertices=CORNERS, faces=TETRAHEDRON)):
        cloud = as_cloud(mesh, count=300, seed=1)
        assert cloud.points.shape == (300, 3)
        inside = cloud.to_unit(np.full((1, 3), 0.1))
        assert (((cloud.points - inside) * cloud.normals).sum(1) > 0).all()  # outwards


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (np.zeros((20, 3)), ["got a ndarray", "(points, None)"]),
        (torch.zeros(20, 3), ["got a Tensor"]),
        ((np.zeros((20, 3)), np.zeros((19, 3))), ["20 points and 19 normals"]),
        ((np.zeros((20, 2)), None), ["points (N, 3)", "(20, 2)"]),
        ((np.eye(3), np.full((3, 3), "a")), ["normals (N, 3)", "<U1"]),
        ((np.zeros((20, 3)), None), ["points that lie apart"]),
        ((np.eye(3), None), ["at least 10 points, got 3"]),
        (SimpleNamespace(vertices=CORNERS, faces=TETRAHEDRON[:, :2]), ["faces (F, 3)", "(4, 2)"]),
        (SimpleNamespace(vertices=CORNERS, faces=TETRAHEDRON / 2), ["faces (F, 3)", "float64"]),
        (SimpleNamespace(vertices=CORNERS, faces=TETRAHEDRON + 1), ["4 vertices", "got 1 to 4"]),
        (SimpleNamespace(vertices=CORNERS * np.nan, faces=TETRAHEDRON), ["finite", "4 of 4 faces"]),
        (SimpleNamespace(vertices=CORNERS * 0, faces=TETRAHEDRON), ["an area"]),
        (SimpleNamespace(vertices=CORNERS), ["got a SimpleNamespace"]),
        (None, ["got a NoneType"]),
        ("nothing.ply", ["nothing.ply", "no such file"]),
    ],
)
def test_what_is_no_shape_is_refused_in_one_line(shape, words):
    with pytest.raises(SignalError) as caught:
        SDF(shape)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
