"""The command `render`. Imports no torch before it must."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypersiren.cli.console import File, Out, check_out, choose_device, fail
from hypersiren.cli.lines import LOG, announce, show
from hypersiren.training.folders import unused
from hypersiren.training.runs import find

NUMBERS = (".npy", ".tif", ".tiff")
"""Endings of files that get the values in the units of the signal."""

FLAGS = {"image": ("size", "region"), "sound": ("rate",), "video": ("size", "fps", "slow"), "volume": ("size",)}
"""Flags of `render` that a kind of signal has."""


NEEDED = {"image": (2, ()), "sound": (1, ("rate", "scale")), "video": (3, ("fps",)), "volume": (3, ())}
"""Axes of a kind of signal, and numbers that its rendering must know."""


def render(
    run: File,
    *,
    size: int | None = None,
    region: tuple[float, float, float, float] | None = None,
    rate: int | None = None,
    fps: float | None = None,
    slow: float | None = None,
    out: Out | None = None,
    device: str = "auto",
) -> None:
    """Render a fitted image, sound, video or volume at any resolution.

    Args:
        run: Run folder of `hypersiren fit image`, inpaint, poisson, edit, audio, video or volume.
        size: Height in pixels; the width follows, and the depth of a volume. The default is 512 for an image, the
            original height for a video or a volume.
        region: Top, left, bottom and right as shares of an image: 0 0 1 1 is all of it, 0.25 0.25 0.5 0.5 a part.
            Values below 0 and above 1 show the field outside.
        rate: Samples per second of a sound; the default is the original rate.
        fps: Frames per second of a video; the default is the original rate.
        slow: Factor of slow motion: the video plays this many times longer, with new frames between.
        out: File. The default is render.png, render.wav, render.mp4 (.gif without PyAV), or render.npy for a volume and
            for an image of other than 1 or 3 channels, in the run folder, with a number if that file exists. A volume
            may be .tif or a clip, such an image .tif or a picture in false colours. An image whose file has values of
            its own, as elevations, may be .npy.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    top, left, bottom, right = region or (0.0, 0.0, 1.0, 1.0)
    if not (top < bottom and left < right):
        fail(f"expected --region TOP LEFT BOTTOM RIGHT with top < bottom, left < right, got {region}")
    numbers = {"size": size, "rate": rate, "fps": fps, "slow": slow}
    for name, number in numbers.items():
        if number is not None and not 0 < number < math.inf:
            fail(f"expected --{name} above 0, got {number}")
    check_out(out)
    find(run)
    announce(f"render {run}")
    from hypersiren.fields.render import kind_of
    from hypersiren.signals.video.files import video_ending
    from hypersiren.training import checkpoints

    place = choose_device(device)
    path = checkpoints.find(run)
    content = checkpoints.read(path)
    about = checkpoints.playback(content)
    kind = kind_of(about)
    field = checkpoints.restore(content, place)
    axes, keys = NEEDED.get(kind, (0, ()))
    whole = len(about.get("samples", [])) == axes and all(isinstance(about.get(key), int | float) for key in keys)
    colours = "bands" in about or getattr(field, "out_features", None) in (1, 3)
    if not axes or not whole or (kind == "image" and not colours):
        fail(f"{path}: expected a fitted image, sound, video or volume (hypersiren fit image, audio, video ...)")
    given = [name for name, value in {**numbers, "region": region}.items() if value is not None]
    if wrong := [name for name in given if name not in FLAGS[kind]]:
        fail(f"--{wrong[0]}: not for the {kind} that {run} holds; it has --{', --'.join(FLAGS[kind])}")
    numbers_out = kind == "volume" or "bands" in about
    ending = ".npy" if numbers_out else {"image": ".png", "sound": ".wav", "video": video_ending()}[kind]
    target = out or unused(path.parent / f"render{ending}")[0]
    if kind == "sound":
        _sound(target, field, about, rate, place)
    elif kind == "video":
        _video(target, field, about, fps, slow or 1.0, size, place)
    elif kind == "volume":
        _volume(target, field, about, size, place)
    else:
        _image(target, field, about, size or 512, (top, left, bottom, right), place)
    show(target)


def _image(
    path: Path, field: Any, about: dict[str, Any], height: int, region: tuple[float, float, float, float], device: Any
) -> None:
    from hypersiren.fields.render import render_image, unit
    from hypersiren.signals.image.files import image_format, write_image
    from hypersiren.signals.volume.files import write_bands
    from hypersiren.tasks.images.bands import FalseColour, in_units

    ending = path.suffix.lower()
    as_numbers = ending in NUMBERS if "bands" in about else ending == ".npy" and "units" in about
    if not as_numbers:
        image_format(path)  # refuses others before the work
    (rows, columns), (top, left, bottom, right) = about["samples"], region
    width = max(1, round(height * columns * (right - left) / (rows * (bottom - top))))
    corners = (2 * top - 1, 2 * left - 1), (2 * bottom - 1, 2 * right - 1)
    LOG.debug("rendering %d x %d pixels", height, width)
    values = unit(render_image(field, (height, width), *corners, device=device)).cpu()
    if as_numbers:
        write_bands(path, in_units(values, about).numpy())
    else:
        shown = FalseColour.from_playback(about) or (lambda values: values)
        write_image(path, shown(values).numpy())


def _volume(path: Path, field: Any, about: dict[str, Any], height: int | None, device: Any) -> None:
    from hypersiren.fields.render import render_frames, unit
    from hypersiren.signals.video.files import write_video
    from hypersiren.signals.volume.files import write_volume
    from hypersiren.tasks.images.bands import FalseColour, in_units
    from hypersiren.tasks.volumes.volume import FPS

    depth, rows, columns = (
        max(1, round(n * (height or about["samples"][1]) / about["samples"][1])) for n in about["samples"]
    )

    def rendered() -> Iterator[Any]:
        for i, each in enumerate(render_frames(field, (depth, rows, columns), device=device), 1):
            LOG.debug("rendering slice %d of %d", i, depth)
            yield unit(each).cpu()

    if path.suffix.lower() in NUMBERS:
        slices = (in_units(each, about).numpy() for each in rendered())
        write_volume(path, slices, (depth, rows, columns, field.out_features))
    else:
        shown = FalseColour.from_playback(about) or (lambda values: values)
        write_video(path, (shown(each).numpy() for each in rendered()), FPS)


def _sound(path: Path, field: Any, about: dict[str, Any], rate: int | None, device: Any) -> None:
    from hypersiren.fields.render import render_sound
    from hypersiren.signals.sound.files import check_sound_name, write_sound

    check_sound_name(path)  # before the work
    wanted = rate or about["rate"]
    samples = max(1, round(about["samples"][0] * wanted / about["rate"]))
    LOG.debug("rendering %d samples", samples)
    wave = render_sound(field, samples, device=device)
    write_sound(path, (wave * about["scale"]).cpu().numpy(), wanted)


def _video(
    path: Path, field: Any, about: dict[str, Any], fps: float | None, slow: float, height: int | None, device: Any
) -> None:
    from hypersiren.fields.render import render_frames, unit
    from hypersiren.signals.video.files import write_video

    frames, h, w = about["samples"]
    wanted = fps or about["fps"]
    height = height or h
    size = (max(1, round(frames * slow * wanted / about["fps"])), height, max(1, round(height * w / h)))

    def rendered() -> Iterator[Any]:
        for i, frame in enumerate(render_frames(field, size, device=device), 1):
            LOG.debug("rendering frame %d of %d", i, size[0])
            yield unit(frame).cpu().numpy()

    write_video(path, rendered(), wanted)
