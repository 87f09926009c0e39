"""An installed library that lacks something is told as that, by every reader: never as a fault of the user's file."""

import numpy as np
import pytest
import safetensors
import scipy.io
import soundfile
import tifffile
import torch
import trimesh
from PIL import Image

from hypersiren import Siren, save
from hypersiren.shapes.cloud import as_cloud
from hypersiren.signals.files import LibraryError, SignalError, guarded
from hypersiren.signals.image.files import read_image
from hypersiren.signals.image.formats import read_wide
from hypersiren.signals.sets.sounds import _Recordings, _sounds
from hypersiren.signals.sound.files import read_sound
from hypersiren.signals.video import frames
from hypersiren.signals.video.files import read_video, write_video
from hypersiren.training import checkpoints
from hypersiren.waves.measurements import read_inversion

av = pytest.importorskip("av")

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
DEEP = PICTURE.astype(np.uint16)


def write_points(path):
    np.save(path, np.random.default_rng(0).normal(size=(50, 3)))


def write_run(path):
    torch.save({"record": {}, "ema": {}, "metrics": {}, "step": 0, "seconds": 0.0}, path)


READERS = {
    "picture": ("a.png", lambda path: Image.fromarray(PICTURE).save(path), read_image, Image, "open"),
    "deep picture": ("a.tif", lambda path: tifffile.imwrite(path, DEEP), read_wide, tifffile, "TiffFile"),
    "sound": ("a.wav", lambda path: soundfile.write(path, np.zeros(99), 8000), read_sound, soundfile, "SoundFile"),
    "video": ("a.mp4", lambda path: write_video(path, PICTURE[None], 5), read_video, av, "open"),
    "array": ("a.npy", lambda path: np.save(path, PICTURE[None]), read_video, np, "load"),
    "animation": ("a.gif", lambda path: write_video(path, PICTURE[None], 5), read_video, Image, "open"),
    "mesh": ("a.stl", lambda path: trimesh.creation.box().export(path), as_cloud, trimesh, "load_mesh"),
    "points": ("a.npy", write_points, as_cloud, np.lib.format, "read_array"),
    "checkpoint": ("a.pt", write_run, checkpoints.read, torch, "load"),
    "weights": ("a.safetensors", lambda path: save(Siren(2, 1, 8), path), checkpoints.read, safetensors, "safe_open"),
}
"""File, how it is written and read, and what is asked of which library."""


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("lack", ["attribute", "keyword"])
def test_what_a_library_lacks_is_no_fault_of_the_file(kind, lack, tmp_path, monkeypatch):
    name, write, read, library, needed = READERS[kind]
    write(tmp_path / name)
    read(tmp_path / name)
    if lack == "attribute":
        monkeypatch.delattr(library, needed)
    else:
        monkeypatch.setattr(library, needed, lambda: None)
    with pytest.raises(LibraryError, match="through no fault of its own") as caught:
        read(tmp_path / name)
    assert not isinstance(caught.value, SignalError)  # which sets of files skip, as damaged ones
    assert needed in str(caught.value) or "argument" in str(caught.value)
    assert f"numpy {np.__version__}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_of_sounds_does_not_leave_out_what_the_library_cannot_open(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(99), 8000)
    monkeypatch.delattr(soundfile, "SoundFile")
    with pytest.raises(LibraryError, match=r"a\.wav"):
        _sounds(_Recordings(tmp_path, 8000, whole=False), ["a.wav"])


def test_a_scipy_without_its_reader_of_mat_files(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "a.mat", {"source": np.zeros((1, 2))})
    with pytest.raises(SignalError, match="missing"):
        read_inversion(tmp_path / "a.mat")
    (tmp_path / "scipy").mkdir()
    for module in ("__init__", "io"):
        (tmp_path / f"scipy/{module}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LibraryError, match="no attribute 'loadmat'"):
        read_inversion(tmp_path / "a.mat")


def test_a_frame_without_an_attribute_is_told(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", PICTURE[None], 5)
    monkeypatch.setattr(frames, "UNUSED", {"NOT_KNOWN": ""})
    with pytest.raises(LibraryError, match="NOT_KNOWN"):
        read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    "broken",
    [
        lambda: None.size,
        lambda: "".shape,
        lambda: np.frombuffer(None),
        lambda: int([]),
        lambda: {}["color_trc"],
        lambda: Image.Image().im.mode,  # an object of the library whose file was broken
    ],
)
def test_what_a_broken_file_leads_a_decoder_to_is_its_fault(broken):
    with pytest.raises(SignalError, match="broken"), guarded("broken", None):
        broken()


def test_a_lack_behind_a_decoder_is_told_too():
    def decode():
        raise ModuleNotFoundError("No module named 'compression'")

    with pytest.raises(LibraryError, match="compression"), guarded("broken"):
        decode()
    with pytest.raises(LibraryError, match="trapz"), guarded("broken"):
        np.trapz_of_an_older_numpy  # noqa: B018
