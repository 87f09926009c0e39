"""Volumes, and pictures of any number of channels: read, fitted, rendered, shown."""

import itertools
import json
import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Picture

from hypersiren import Image, Siren, Volume, evaluate, fit, grid, open_task
from hypersiren.errors import UserError
from hypersiren.fields.settings import Network
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.opening import open_values
from hypersiren.signals.video.files import read_video
from hypersiren.signals.volume.files import phantom, read_volume, write_bands, write_volume
from hypersiren.tasks.images.bands import FalseColour
from tests.cli.test_cli import run

RNG = np.random.default_rng(4)
CT = RNG.integers(-1000, 3000, (5, 9, 7)).astype(np.int16)
UNIT = 2 * (CT.astype(float) - CT.min()) / (float(CT.max()) - CT.min()) - 1


def quietly(path, **words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_volume(path, **words)


def refused(read, *words):
    with pytest.raises(UserError) as caught:
        read()
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def smooth(shape):
    """A sum of waves, in [-1, 1]."""
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return sum(np.sin(2 * np.pi * (k + 1) * a + k) for k, a in enumerate(axes)).astype(np.float32) / len(shape)


# Reading


@pytest.mark.parametrize("kind", ["plain", "imagej", "ome", "shaped", "lzw", "deflate"])
def test_stacks_are_read_whole(tmp_path, kind):
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    words = {
        "plain": {"metadata": None},
        "imagej": {"imagej": True},
        "deflate": {"compression": "deflate", "predictor": True},
    }
    if kind == "lzw":
        pages = [Picture.fromarray((page + 1000).astype(np.uint16)) for page in CT]
        pages[0].save(path, compression="tiff_lzw", save_all=True, append_images=pages[1:])
    else:
        tifffile.imwrite(path, CT, photometric="minisblack", **words.get(kind, {}))
    with pytest.warns(UserWarning, match="are taken as black to white"):
        found = read_volume(path)
    np.testing.assert_allclose(found.values[..., 0], UNIT, atol=1e-6)
    assert found.units == ((CT.min() + 1000, CT.max() + 1000) if kind == "lzw" else (CT.min(), CT.max()))
    assert found.valid is None


def test_channels_of_stacks_come_last(tmp_path):
    values = RNG.integers(0, 256, (4, 3, 9, 7), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZCYX"})
    expected = np.moveaxis(values, 1, -1) / 127.5 - 1
    np.testing.assert_allclose(quietly(tmp_path / "a.tif").values, expected, atol=1e-6)
    tifffile.imwrite(tmp_path / "a.ome.tif", np.moveaxis(values, 1, 0), metadata={"axes": "CZYX"})
    np.testing.assert_allclose(quietly(tmp_path / "a.ome.tif").values, expected, atol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(values, 1, -1), photometric="rgb")
    np.testing.assert_allclose(quietly(tmp_path / "b.tif").values, expected, atol=1e-6)
    tifffile.imwrite(
        tmp_path / "c.tif", RNG.integers(0, 9, (2, 3, 9, 7), np.uint8), imagej=True, metadata={"axes": "TZYX"}
    )
    refused(lambda: read_volume(tmp_path / "c.tif"), "c.tif", "axes TZYX")
    tifffile.imwrite(tmp_path / "d.tif", values[0, 0])
    refused(lambda: read_volume(tmp_path / "d.tif"), "one picture", "fit image")


def test_arrays_folders_and_what_is_no_volume(tmp_path):
    values = RNG.integers(0, 256, (4, 9, 7, 2), np.uint8)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_allclose(quietly(tmp_path / "a.npy").values, values / 127.5 - 1, atol=1e-6)
    np.save(tmp_path / "a.npy", CT)
    np.testing.assert_allclose(
        quietly(tmp_path / "a.npy", range=(-1000, 3000)).values[..., 0], CT / 2000 - 0.5, atol=1e-6
    )
    (tmp_path / "slices").mkdir()
    for i, page in enumerate(CT):
        tifffile.imwrite(tmp_path / "slices" / f"z{i * 5}.tif", (page + 1000).astype(np.uint16))  # z5 before z10
    np.testing.assert_allclose(
        quietly(tmp_path / "slices", range=(0, 4000)).values[..., 0], (CT + 1000) / 2000 - 1, atol=1e-6
    )
    np.save(tmp_path / "b.npy", np.zeros((4, 5)))
    refused(lambda: read_volume(tmp_path / "b.npy"), "(D, H, W)", "(4, 5)")
    np.save(tmp_path / "b.npy", np.zeros((2, 30, 20, 10)))
    refused(lambda: read_volume(tmp_path / "b.npy"), "channels last")
    (tmp_path / "c.txt").write_text("no volume")
    refused(lambda: read_volume(tmp_path / "c.txt"), "c.txt", "expected a volume")
    refused(lambda: read_volume(tmp_path / "nothing.npy"), "no such file")


def test_means_of_voxels_and_those_without_a_value(tmp_path):
    values = RNG.random((6, 9, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    means = values[:, :8, :6].reshape(3, 2, 4, 2, 3, 2).mean((1, 3, 5))
    np.testing.assert_allclose(quietly(tmp_path / "a.npy", shrink=2).values[..., 0], 2 * means - 1, atol=1e-6)
    refused(lambda: read_volume(tmp_path / "a.npy", shrink=7), "at least 7 voxels")
    values[:2, :3, :3] = np.nan
    np.save(tmp_path / "a.npy", values)
    with pytest.warns(UserWarning, match="18 of 378 voxels are NaN"):
        found = read_volume(tmp_path / "a.npy")
    np.testing.assert_array_equal(found.valid, np.isfinite(values))
    with pytest.warns(UserWarning, match="voxels are NaN"):
        small = read_volume(tmp_path / "a.npy", shrink=2)
    assert small.valid is not None
    assert not small.valid[0, 0, 0]
    assert small.values[0, 1, 1, 0] == pytest.approx(2 * np.nanmean(values[:2, 2:4, 2:4]) - 1, abs=1e-5)
    with pytest.warns(UserWarning, match="voxels are NaN"):
        task = open_task("volume", {"signal": {"path": tmp_path / "a.npy"}, "training": {"points": 50}})
    batch = task.sample(torch.Generator().manual_seed(0))
    assert len(batch.x) == 50
    known = task.values[task.valid].flatten()  # type: ignore[attr-defined]
    assert torch.isin(batch.y.flatten(), known).all()
    assert task.evaluate(task.windowed_field(Network()))["psnr"] > 20  # of noise


def test_nifti_lies_as_its_affine_map_says(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = RNG.integers(0, 1000, (4, 5, 6)).astype(np.int16)  # x, y, z
    for flip in itertools.product((1, -1), repeat=3):
        affine = np.diag([*flip, 1.0]).astype(float)
        stored = values[:: flip[0], :: flip[1], :: flip[2]]
        nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "a.nii.gz")
        found = quietly(tmp_path / "a.nii.gz", range=(0, 1000)).values[..., 0]
        assert found.shape == (6, 5, 4)
        expected = values.transpose(2, 1, 0)[:, ::-1]
        np.testing.assert_allclose(found, expected / 500 - 1, atol=1e-6)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(2, -100)
    nibabel.save(image, tmp_path / "b.nii")
    loaded = np.asanyarray(nibabel.load(tmp_path / "b.nii").dataobj)
    found = read_volume(tmp_path / "b.nii", range=(-100, 3000)).values
    np.testing.assert_allclose(found[..., 0], loaded.transpose(2, 1, 0)[:, ::-1] / 1550 - 1450 / 1550, atol=1e-5)


def test_stacks_are_videos_too(tmp_path):
    frames = RNG.integers(0, 256, (4, 9, 7, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", frames, photometric="rgb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_video(tmp_path / "a.tif").pixels, frames)
        tifffile.imwrite(tmp_path / "a.tif", frames[..., 0].astype(np.uint16) * 257, photometric="minisblack")
        np.testing.assert_array_equal(read_video(tmp_path / "a.tif").pixels[..., 1], frames[..., 0])


def test_what_is_written_is_read_again(tmp_path):
    for channels, ending in itertools.product((1, 2, 3), ("npy", "tif")):
        values = RNG.random((4, 9, 7, channels)).astype(np.float32)
        write_volume(tmp_path / f"a.{ending}", iter(values), values.shape)
        found = quietly(tmp_path / f"a.{ending}")
        np.testing.assert_allclose((found.values + 1) / 2, values, atol=1e-6)
    for channels, ending in itertools.product((2, 5, 12), ("npy", "tif")):
        bands = RNG.random((9, 7, channels)).astype(np.float32)
        write_bands(tmp_path / f"b.{ending}", bands)
        np.testing.assert_allclose((open_values(tmp_path / f"b.{ending}", bands=True).pixels + 1) / 2, bands, atol=1e-6)
    with pytest.raises(SignalError, match="ending"):
        write_volume(tmp_path / "a.png", iter(values), values.shape)


def test_the_phantom_is_a_head():
    head = phantom()
    assert head.shape == (48, 64, 64)
    assert head[24, 32, 32] == pytest.approx(0.2, abs=0.02)
    assert head[0, 0, 0] == 0
    assert head.max() > 0.9


# The task


@pytest.mark.painted
def test_a_volume_is_solved_and_rendered(tmp_path):
    values = smooth((20, 30, 26))
    result = fit(Volume(values), run_dir=tmp_path / "run")
    assert result.metrics["psnr"] > 55
    fitted = result.render()
    np.testing.assert_allclose(fitted[..., 0].numpy(), (values + 1) / 2, atol=0.01)
    at = evaluate(result.field, grid((20, 30, 26))).view(20, 30, 26)
    np.testing.assert_allclose(at.detach().numpy(), values, atol=0.02)
    assert result.render(15).shape == (10, 15, 13, 1)
    figure = result.plot()
    titles = [axes.get_title() for part in figure.subfigs for axes in part.axes]
    assert "Truth, slice 11 of 20" in titles
    assert "Result, column 14 of 26" in titles
    again = fit(Volume(values), run_dir=tmp_path / "run")
    assert again.metrics == result.metrics


def test_one_siren_learns_a_volume():
    result = fit(Volume(smooth((8, 10, 9)), points=None), Siren(3, 1, 48, 1), steps=150)
    assert result.metrics["psnr"] > 15


@pytest.mark.parametrize(
    ("volume", "words", "expected"),
    [
        (np.zeros((4, 5)), {}, "(D, H, W)"),
        (np.full((4, 5, 6), 3.0), {}, "[-1, 1]"),
        (np.zeros((4, 5, 6), np.int16), {}, "range=(low, high)"),
        (np.zeros((4, 5, 6)), {"range": (1, 0)}, "range=(low, high)"),
        (np.zeros((4, 5, 6)), {"valid": np.zeros((4, 5, 6), bool)}, "some are True"),
        ([1], {}, "got a list"),
    ],
)
def test_what_is_no_volume_is_refused(volume, words, expected):
    refused(lambda: Volume(volume, **words), expected)


def test_units_of_arrays():
    task = Volume(CT, range=(-1000, 3000))
    np.testing.assert_allclose(task.values[..., 0].numpy(), CT / 2000 - 0.5, atol=1e-6)
    assert task.playback["units"] == [-1000, 3000]
    assert Volume(CT.astype(np.uint8)).playback["units"] == [0, 255]


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = (1000 + 500 * smooth((12, 20, 16))).astype(np.float32)
    np.save("scan.npy", values)
    code, _, err = run(capsys, "fit", "volume", "scan.npy", "--numbers", "1.5")
    assert code == 0, err
    assert json.loads((tmp_path / "runs/volume-scan/metrics.json").read_text())
    assert (tmp_path / "runs/volume-scan/fit_slice.png").exists()
    assert run(capsys, "render", "runs/volume-scan")[0] == 0
    np.testing.assert_allclose(np.load("runs/volume-scan/render.npy"), values, atol=20)
    assert run(capsys, "render", "runs/volume-scan", "--size", 10, "--out", "a.tif")[0] == 0
    assert tifffile.imread("a.tif").shape == (6, 10, 8)
    assert run(capsys, "render", "runs/volume-scan", "--out", "a.gif")[0] == 0
    assert len(read_video("a.gif").pixels) == 12
    code, _, err = run(capsys, "render", "runs/volume-scan", "--region", 0, 0, 1, 1)
    assert (code, "--region" in err) == (2, True)
    assert run(capsys, "export", "runs/volume-scan", "--html")[0] == 0
    assert '"names":["slice","row","column"]' in (tmp_path / "runs/volume-scan/field.html").read_text()


# Pictures of any number of channels


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
def test_pictures_of_any_number_of_channels(tmp_path, capsys, monkeypatch, channels):
    monkeypatch.chdir(tmp_path)
    cube = np.stack([300 * smooth((40, 30)) * (1 + 0.1 * b) + 1000 + 30 * b for b in range(channels)], -1).astype(
        np.float32
    )
    np.save("cube.npy", cube)
    tifffile.imwrite("cube.tif", cube, photometric="minisblack", planarconfig="contig", metadata=None)
    for name in ("cube.npy", "cube.tif"):
        with pytest.warns(UserWarning, match="taken as black to white"):
            task = open_task("image", {"signal": {"path": name}})
        assert task.out_features == channels
        assert task.playback["units"] == pytest.approx([cube.min(), cube.max()])
        assert len(task.playback["bands"]) == 3
    code, _, err = run(capsys, "fit", "image", "cube.npy")
    assert code == 0, err
    assert run(capsys, "render", "runs/image-cube", "--size", 40)[0] == 0
    np.testing.assert_allclose(np.load("runs/image-cube/render.npy"), cube, atol=2)
    assert run(capsys, "render", "runs/image-cube", "--size", 40, "--out", "a.tif")[0] == 0
    np.testing.assert_allclose(open_values("a.tif", bands=True, range=(0, 2000)).pixels * 1000 + 1000, cube, atol=2)
    assert run(capsys, "render", "runs/image-cube", "--size", 40, "--out", "a.png")[0] == 0
    shown = FalseColour.from_playback(task.playback)
    truth = torch.from_numpy((cube - cube.min()) / (cube.max() - cube.min()))
    with Picture.open("a.png") as picture:
        np.testing.assert_allclose(np.asarray(picture) / 255, shown(truth), atol=0.05)  # type: ignore[misc]
    assert run(capsys, "export", "runs/image-cube", "--html")[0] == 0
    assert '"outputs":3' in (tmp_path / "runs/image-cube/field.html").read_text()


def test_elevations_are_rendered_in_their_units(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    heights = (800 + 700 * smooth((32, 24))).astype(np.float32)
    holes = heights.copy()
    holes[4:9, 6:12] = -9999
    tifffile.imwrite("dem.tif", holes, photometric="minisblack", extratags=[(42113, 2, 6, "-9999", True)])
    code, _, err = run(capsys, "fit", "image", "dem.tif")
    assert code == 0, err
    assert "30 of 768 pixels have no value" in err
    assert run(capsys, "render", "runs/image-dem", "--size", 32, "--out", "a.npy")[0] == 0
    assert run(capsys, "render", "runs/image-dem", "--size", 32)[0] == 0
    found = np.load("a.npy")[..., 0]
    assert np.abs(found - heights)[holes > 0].max() < 15
    assert np.abs(found - heights)[holes < 0].max() < 400  # what is not known is filled in smoothly


def test_arrays_of_many_bands_and_those_that_leave_doubt():
    cube = np.stack([smooth((20, 16))] * 6, -1)
    assert fit(Image(cube)).metrics["psnr"] > 40
    assert Image(cube[..., :4], bands=True).out_features == 4
    for doubtful in (cube[..., :4], cube[..., :2], np.moveaxis(cube[..., :3], -1, 0)):
        refused(lambda image=doubtful: Image(image), "(H, W, 3)")


def test_false_colours_are_those_of_the_page():
    from hypersiren.export.page import _weights
    from hypersiren.tasks.images.bands import FalseColour

    torch.manual_seed(0)
    field = Siren(2, 7, 16, 1)
    x = grid((9, 8))
    shown = FalseColour((6, 2, 4), ((0.2, 0.7), (0.1, 0.9), (0.4, 0.6)))
    expected = shown((evaluate(field, x) + 1) / 2)
    data = _weights([field], shown.playback)
    import base64

    tensors = [torch.frombuffer(bytearray(base64.b64decode(t)), dtype=torch.float32) for t in data["tensors"]]
    y = x
    layers = data["fields"][0]["layers"]
    for i, (weight, bias) in enumerate(layers):
        b = tensors[bias]
        y = y @ tensors[weight].view(len(b), -1).T + b
        y = y.sin() if i < len(layers) - 1 else y
    torch.testing.assert_close(((y + 1) / 2).clamp(0, 1), expected, atol=1e-4, rtol=0)
