"""What a user may hand over as a picture, a sound or a video: every kind gives the same values, or one clear line."""

import warnings
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.signals.files import SignalError
from hypersiren.signals.image.opening import as_mask, as_pixels, open_masked, open_picture
from hypersiren.signals.sound.files import write_sound
from hypersiren.signals.sound.opening import as_wave
from hypersiren.signals.video.files import read_video
from hypersiren.signals.video.opening import as_frames

COLOUR = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
GRAY = COLOUR[..., :1]
NAN = float("nan")


def refused(call, *words: str) -> None:
    with pytest.raises(SignalError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 250
    for word in words:
        assert word in message


@pytest.mark.parametrize("bytes_", [COLOUR, GRAY], ids=["colour", "gray"])
def test_pictures_of_every_kind_have_the_same_pixels(bytes_, tmp_path):
    expected = torch.from_numpy(bytes_.astype(np.float64) / 127.5 - 1).float()
    picture = PIL.Image.fromarray(bytes_.squeeze())
    picture.save(tmp_path / "a.png")
    unit = bytes_ / 255
    kinds = {
        "str": str(tmp_path / "a.png"),
        "path": tmp_path / "a.png",
        "PIL": picture,
        "lazy PIL": PIL.Image.open(tmp_path / "a.png"),
        "uint8": bytes_,
        "uint8 tensor": torch.from_numpy(bytes_),
        "read-only": np.frombuffer(bytes_.tobytes(), np.uint8).reshape(bytes_.shape),
        "uint16": bytes_.astype(np.uint16) * 257,
        "big-endian uint16": (bytes_.astype(np.uint16) * 257).astype(">u2"),
        "uint16 tensor": torch.from_numpy(bytes_.astype(np.uint16) * 257),
        "flipped": bytes_[::-1].copy()[::-1],
        "float32": (unit * 2 - 1).astype(np.float32),
        "float64": unit * 2 - 1,
        "tensor": torch.from_numpy(unit * 2 - 1),
        "with a gradient": torch.from_numpy(unit * 2 - 1).requires_grad_(),
    }
    if bytes_.shape[2] == 1:
        kinds |= {"(H, W)": bytes_[..., 0], "(H, W) tensor": torch.from_numpy(bytes_[..., 0])}
    ranged = {
        (0, 1): [unit, unit.astype(np.float32), torch.from_numpy(unit)],
        (0, 255): [bytes_.astype(np.int64), bytes_.astype(float), torch.from_numpy(bytes_).int(), bytes_],
        (-1000, 1000): [unit * 2000 - 1000, np.rint(unit * 2000 - 1000).astype(np.int16)],
    }
    pairs = [(name, kind, None) for name, kind in kinds.items()]
    pairs += [(f"{limits}", kind, limits) for limits, each in ranged.items() for kind in each]
    for name, kind, limits in pairs:
        pixels = as_pixels(kind, range=limits)
        tolerance = 1e-3 if getattr(kind, "dtype", None) == np.int16 else 1e-6
        torch.testing.assert_close(pixels, expected, atol=tolerance, rtol=0, msg=lambda text, n=name: f"{n}: {text}")
    half = as_pixels((expected / 2).half())
    torch.testing.assert_close(half, expected / 2, atol=1e-3, rtol=0)


def test_bools_are_black_and_white_and_a_sample_is_called_by_its_name():
    assert as_pixels(np.array([[True, False]])).squeeze().tolist() == [1, -1]
    assert torch.equal(as_pixels("moon"), open_picture("moon"))


def test_a_picture_of_pil_is_upright_and_over_white_as_its_file_is(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    PIL.Image.fromarray(np.dstack([COLOUR, GRAY]), "RGBA").save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        with PIL.Image.open(tmp_path / name) as picture:
            assert torch.equal(as_pixels(picture), open_picture(tmp_path / name))
    assert open_picture(tmp_path / "a.png").shape == (5, 7, 3)
    PIL.Image.fromarray(COLOUR).save(tmp_path / "c.bmp")
    (tmp_path / "c.bmp").write_bytes((tmp_path / "c.bmp").read_bytes()[:-30])
    with PIL.Image.open(tmp_path / "c.bmp") as picture:
        refused(lambda: as_pixels(picture), "broken or truncated")


def test_a_tensor_that_fits_is_returned_itself():
    pixels = torch.linspace(-1, 1, 12).view(2, 2, 3)
    assert as_pixels(pixels) is pixels
    assert as_pixels(pixels, range=(-1, 1)) is pixels
    wave = torch.linspace(-1, 1, 12).view(6, 2)
    assert as_wave(wave, 8000)[0] is wave
    frames = torch.zeros(2, 3, 4, 3, dtype=torch.uint8)
    assert as_frames(frames, 25)[0] is frames
    rounded = as_pixels(pixels * (1 + 2e-7))  # as computing leaves it
    assert rounded.abs().max() == 1


@pytest.mark.parametrize(
    ("image", "limits", "words"),
    [
        (GRAY.astype(np.float32), None, ["[-1, 1]", f"got {GRAY.min()} to {GRAY.max()}", "range=(low, high)"]),
        (np.array([[0.0, 2.0]]), (0, 1), ["[0, 1]", "got 0 to 2"]),
        (np.array([[0.0, NAN, np.inf]]), None, ["finite", "2 of 3"]),
        (torch.tensor([[0.0, NAN]]), (0, 1), ["finite", "1 of 2"]),
        (np.zeros((3, 20, 30), np.uint8), None, ["(3, 20, 30)", "channels come last", "image.transpose(1, 2, 0)"]),
        (torch.zeros(1, 20, 30), None, ["(1, 20, 30)", "image.permute(1, 2, 0)"]),
        (torch.zeros(4, 20, 30), None, ["(4, 20, 30)", "image.permute(1, 2, 0)"]),
        (np.zeros((20, 30, 4), np.uint8), None, ["(20, 30, 4)", "image[..., :3]"]),
        (np.zeros((2, 20, 30, 3), np.uint8), None, ["(2, 20, 30, 3)"]),
        (np.zeros((20, 0, 3)), None, ["(20, 0, 3)", "empty"]),
        (np.zeros(()), None, ["got ()"]),
        (np.zeros((4, 4), np.int64), None, ["range=(low, high)", "int64"]),
        (torch.zeros(4, 4, dtype=torch.int8), None, ["range=(low, high)", "int8"]),
        (np.zeros((4, 4), complex), None, ["complex128"]),
        (torch.zeros(4, 4, dtype=torch.complex64), None, ["complex64"]),
        (np.array([["a"]]), None, ["<U1"]),
        (np.ma.masked_array(np.zeros((4, 4)), np.eye(4)), None, ["MaskedArray"]),
        ([[0.0, 1.0]], None, ["picture as a path", "got a list"]),
        (None, None, ["got a NoneType"]),
        (np.zeros((4, 4)), (1, 0), ["range=(low, high)", "(1, 0)"]),
        (np.zeros((4, 4)), (0, NAN), ["range=(low, high)", "nan"]),
        ("camera", (0, 1), ["no range", "(0, 1)"]),
        ("nothing.png", None, ["nothing.png", "no such file"]),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(image, limits, words):
    refused(lambda: as_pixels(image, range=limits), *words)


def test_floats_between_0_and_1_are_read_as_they_are_with_a_warning():
    pixels = torch.rand(4, 4, 1)
    with pytest.warns(UserWarning, match=r"range=\(0, 1\)") as caught:
        assert as_pixels(pixels) is pixels
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_pixels(pixels, range=(0, 1))
        as_pixels(pixels, range=(-1, 1))
        as_pixels(torch.ones(4, 4))  # constant
        as_pixels(pixels - 0.5)
        as_pixels(np.array([[0, 1]], np.uint8))


TYPES = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32",
         "float64", "longdouble", "complex64", ">u2", ">f4", "O"]  # fmt: skip


@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    dtype=st.sampled_from(TYPES),
    limits=st.sampled_from([None, (0, 1), (-1, 1), (-7, 300)]),
    as_tensor=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore:the picture's floats")
def test_any_array_is_a_picture_or_refused_in_one_line(shape, dtype, limits, as_tensor, seed):
    rng = np.random.default_rng(seed)
    array = np.asarray(rng.integers(0, 2, shape) if seed % 2 else rng.uniform(-3, 200, shape)).astype(dtype)
    image = torch.from_numpy(array) if as_tensor and dtype not in ("longdouble", ">u2", ">f4", "O") else array
    default = {"bool": (0, 1), "uint8": (0, 255), "uint16": (0, 65535), ">u2": (0, 65535)}
    default |= dict.fromkeys(["float16", "float32", "float64", "longdouble", ">f4"], (-1, 1))
    span = limits or default.get(dtype)
    right = 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)))
    if not (right and span and dtype not in ("complex64", "O") and span[0] <= array.min() <= array.max() <= span[1]):
        refused(lambda: as_pixels(image, range=limits))
        return
    pixels = as_pixels(image, range=limits)
    assert pixels.dtype == torch.float32
    values = array.astype(np.float64)
    expected = 2 * (values if len(shape) == 3 else values[..., None]) - span[0] - span[1]
    np.testing.assert_allclose(pixels.numpy(), expected / (span[1] - span[0]), atol=1e-5)


def test_masks_are_bools_of_the_pictures_size():
    mask = np.eye(3, dtype=bool)
    assert torch.equal(as_mask(mask, (3, 3)), as_mask(torch.from_numpy(mask), (3, 3)))
    refused(lambda: as_mask(mask.astype(np.uint8), (3, 3)), "bools", "uint8", "mask > 0")
    refused(lambda: as_mask(torch.eye(3), (3, 3)), "bools", "float32")
    refused(lambda: as_mask(mask.tolist(), (3, 3)), "bools", "got a list")
    refused(lambda: as_mask(mask, (3, 4)), "(3, 4)", "(3, 3)")
    refused(lambda: as_mask(mask & False, (3, 3)), "known pixel", "with 0")


def test_a_file_is_opened_once_and_its_mask_too(tmp_path, monkeypatch):
    pixels = np.kron(COLOUR, np.ones((16, 16, 1), np.uint8))  # 112 x 80: reduced while it is decoded
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    PIL.Image.fromarray(pixels[:80, :, 0].repeat(2, 1)[:, :112]).save(tmp_path / "mask.png")
    PIL.Image.fromarray(pixels[..., 0]).save(tmp_path / "lying.png")
    opened, real = [], PIL.Image.open
    monkeypatch.setattr(PIL.Image, "open", lambda path, *words: (opened.append(str(path)), real(path, *words))[1])
    for size in (None, 8):
        for mask in (None, tmp_path / "mask.png"):
            opened.clear()
            found, known = open_masked(tmp_path / "a.jpg", mask, size=size)
            assert opened == [str(tmp_path / name) for name in ["a.jpg", "mask.png"][: 1 + bool(mask)]]
            assert found.shape == ((8, 8, 3) if size else (80, 112, 3))
            assert torch.equal(found, open_picture(tmp_path / "a.jpg", size=size))
            assert known is None if mask is None else known.shape == found.shape[:2]
        refused(lambda s=size: open_masked(tmp_path / "a.jpg", tmp_path / "lying.png", size=s), "112x80", "got 80x112")


def test_sounds_of_every_kind_have_the_same_samples(tmp_path):
    wave = np.random.default_rng(0).integers(-(2**15), 2**15, (300, 2)).astype(np.int16)
    wave[0] = -(2**15)
    unit = (wave / 2**15).astype(np.float32)
    write_sound(tmp_path / "a.wav", unit, 8000)
    kinds = [
        wave,
        torch.from_numpy(wave),
        wave.astype(np.int32) * 2**16,
        wave.astype(">i2"),
        unit,
        torch.from_numpy(unit).double(),
    ]
    for kind in kinds:
        samples, rate, scale = as_wave(kind, 8000)
        assert torch.equal(samples, torch.from_numpy(unit))
        assert (rate, scale) == (8000, 1.0)
    for path in (tmp_path / "a.wav", str(tmp_path / "a.wav")):
        samples, rate, scale = as_wave(path)
        torch.testing.assert_close(samples * scale, torch.from_numpy(unit))
        assert (rate, samples.abs().max().item()) == (8000, 1)
    assert as_wave(unit[:, 0], 8000.0)[0].shape == (300, 1)
    assert as_wave(0.5 * unit, 8000, 0.3)[2] == 0.3
    assert as_wave("chime")[1] == 16_000


@pytest.mark.parametrize(
    ("wave", "rate", "words"),
    [
        (np.zeros((2, 8000)), 8000, ["(2, 8000)", "wave.T"]),
        (np.zeros((20, 30)), 8000, ["(20, 30)", "8 channels"]),
        (np.zeros((20, 2, 1)), 8000, ["(20, 2, 1)"]),
        (np.zeros(0), 8000, ["(0, 1)", "empty"]),
        (np.array([0.0, 1.5]), 8000, ["[-1, 1]", "got 0 to 1.5", "peak"]),
        (np.array([0.0, NAN]), 8000, ["finite", "1 of 2"]),
        (np.zeros(9, np.uint8), 8000, ["int16", "got uint8"]),
        (np.zeros(9, np.int64), 8000, ["got int64"]),
        (np.zeros(9), None, ["rate", "got None"]),
        (np.zeros(9), 0, ["rate", "got 0"]),
        (np.zeros(9), 8000.5, ["whole", "got 8000.5"]),
        (np.zeros(9), NAN, ["rate", "got nan"]),
        ([0.0, 1.0], 8000, ["got a list"]),
        ("chime", 8000, ["chime", "no rate", "8000"]),
        ("nothing.wav", None, ["nothing.wav", "no such file"]),
    ],
)
def test_what_is_no_sound_is_refused_in_one_line(wave, rate, words):
    refused(lambda: as_wave(wave, rate), *words)


def test_videos_of_every_kind_have_the_same_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    np.save(tmp_path / "a.npy", frames)
    expected = torch.from_numpy(frames)
    for kind in (frames, expected, frames / 255, (expected / 255).float(), frames[::-1].copy()[::-1]):
        assert torch.equal(as_frames(kind, 30)[0], expected)
    for path in (tmp_path / "a.npy", str(tmp_path / "a.npy")):
        found, fps = as_frames(path)
        assert torch.equal(found, expected)
        assert fps == read_video(path).fps
    assert torch.equal(as_frames(frames[..., 0], 30)[0], expected[..., :1])
    assert as_frames("coffee")[0].shape == (32, 72, 96, 3)


@pytest.mark.parametrize(
    ("frames", "fps", "words"),
    [
        (np.zeros((4, 3, 6, 5), np.uint8), 25, ["(4, 3, 6, 5)", "frames.transpose(0, 2, 3, 1)"]),
        (torch.zeros(4, 3, 6, 5), 25, ["frames.permute(0, 2, 3, 1)"]),
        (np.zeros((6, 5, 3), np.uint8), 25, ["(6, 5, 3)", "frames[None]"]),
        (np.zeros((4, 6, 5, 4), np.uint8), 25, ["(4, 6, 5, 4)"]),
        (np.zeros((0, 6, 5), np.uint8), 25, ["(0, 6, 5)", "empty"]),
        (np.full((4, 6, 5), 2.0), 25, ["[0, 1]", "got 2 to 2"]),
        (np.full((1, 1, 2), NAN), 25, ["finite", "2 of 2"]),
        (np.zeros((4, 6, 5), np.int64), 25, ["uint8", "got int64"]),
        (np.zeros((4, 6, 5), bool), 25, ["got bool"]),
        (np.zeros((4, 6, 5), np.uint8), None, ["fps", "got None"]),
        (np.zeros((4, 6, 5), np.uint8), 0, ["fps", "got 0"]),
        ([[0]], 25, ["got a list"]),
        (SimpleNamespace(), 25, ["got a SimpleNamespace"]),
        ("coffee", 25, ["coffee", "no fps"]),
        ("nothing.mp4", None, ["nothing.mp4", "no such file"]),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(frames, fps, words):
    refused(lambda: as_frames(frames, fps), *words)
