"""The exported page in a headless Chromium: its numbers and its pixels are Python's."""

import itertools
import re

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren.completion.images.photos import read_photo
from hypersiren.completion.prediction import prediction
from hypersiren.errors import UserError
from hypersiren.export import page as pages
from hypersiren.export.page import completion_page, fit_page
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import grid
from hypersiren.fields.render import render_image, render_sound, unit
from hypersiren.fields.siren import Siren
from hypersiren.fields.window_solve import solve_raster
from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.full import FullHypernet
from hypersiren.hypernets.model import HyperSiren
from tests.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package chromium")

ABOUT = {
    1: {"kind": "sound", "samples": [3000], "rate": 8000, "scale": 0.5},
    2: {"kind": "image", "samples": [40, 60]},
    3: {"kind": "video", "samples": [5, 30, 40]},
}
"""What a run says of a field of so many coordinates."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def siren(inputs, outputs, *widths, omega=30.0):
    return Siren(inputs, outputs, widths, 1, omega, generator=torch.Generator().manual_seed(inputs)).requires_grad_(
        False
    )


def windowed(kind, inputs, outputs):
    """A field of windows with weights of their own: packed, only the last layers, or all."""
    net, count, rng = siren(inputs, outputs, 30, 37, omega=5.0), (5, 3, 4)[:inputs], torch.Generator().manual_seed(1)
    if kind == "packed":
        field = CompactWindows(net, count, 0.2, 1.1, counts=(37, 11, 7)[:outputs])
    else:
        field = WindowedSiren(net, count, 0.2, 1.1, own=kind)
    for name, p in field.requires_grad_(False).named_parameters():
        if name in field.owned:
            p.mul_(torch.rand(p.shape, generator=rng) + 0.5)
        if name in ("coefficients", "mix", "offset"):
            p.copy_(torch.randn(p.shape, generator=rng))
    return field


def open_field(browser, tmp_path, field, **about):
    page = tmp_path / "field.html"
    page.write_text(fit_page(field, ABOUT[field.in_features] | about, "a field"), "utf-8")
    browser.open(page)


def evaluated(browser, engine, points, wanted):
    """What an expression for an engine gives at points."""
    listed = f"Float64Array.from({points.double().flatten().tolist()})"
    return np.array(browser.run(f"(async () => [...await ({engine}).evaluate({listed}, '{wanted}')])()"))


def show(browser, code):
    """Change the view by some code and wait for the finished picture; how long its levels took, in ms."""
    wait = "let one; do { one = page.shown.settled; await one } while (one !== page.shown.settled); return one"
    return browser.run(f"(async () => {{ {code}; page.draw(); {wait} }})()")


def shown_region(browser):
    """Size, and least and largest coordinates of rows and columns, of what the canvas shows."""
    size = browser.run("[page.shown.height, page.shown.width]")
    lower = browser.run("page.shown.place(-0.5, -0.5)")
    upper = browser.run("page.shown.place(page.shown.height - 0.5, page.shown.width - 0.5)")
    return size, lower, upper


ENGINES = {
    "workers": "page.backend",
    "no fused product": "(() => { const e = new WasmEngine(); e.fused = false; e.load(page.fields[0]); return e })()",
    "plain": "(() => { const e = new PlainEngine(); e.load(page.fields[0]); return e })()",
}


def check_values_and_derivatives(browser, field, engines, x):
    jet = field.double().jet(x.double(), second="laplacian")
    for (name, engine), wanted in itertools.product(engines.items(), ("value", "gradient", "laplacian")):
        truth = getattr(jet, wanted).flatten().numpy()
        error = np.abs(evaluated(browser, engine, x, wanted) - truth).max()
        assert error < 1e-5 * max(1, np.abs(truth).max()), (name, wanted)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 2), (2, 3), (3, 1)])
def test_values_and_derivatives_are_pythons(inputs, outputs, browser, tmp_path):
    field = siren(inputs, outputs, 30, 65, 17)
    open_field(browser, tmp_path, field)
    x = torch.rand(50, inputs, generator=torch.Generator().manual_seed(0)) * 2 - 1
    check_values_and_derivatives(browser, field, ENGINES, x)


@pytest.mark.parametrize("kind", ["packed", "last", "all"])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 2), (2, 3), (3, 1)])
def test_windows_are_pythons_at_seams_corners_and_beyond(kind, inputs, outputs, browser, tmp_path):
    field = windowed(kind, inputs, outputs)
    open_field(browser, tmp_path, field)
    x = torch.rand(200, inputs, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    corner = torch.tensor([[step - 1 for step in field.windows.step]])
    x = torch.cat([x, corner, corner + 0.5 * torch.tensor([field.windows.lap])])
    plain = "(() => { const e = new WindowedEngine(new PlainEngine()); e.load(page.fields[0]); return e })()"
    check_values_and_derivatives(browser, field, {"workers": "page.backend", "plain": plain}, x)
    assert "no graphics card" in browser.run("page.backend.name")


def test_a_page_too_large_is_written_with_half_the_digits_or_refused(browser, tmp_path, monkeypatch, caplog):
    field = windowed("packed", 2, 3)
    x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    monkeypatch.setattr(pages, "LARGEST", field.coefficients.numel() * 4)
    caplog.set_level("INFO", "hypersiren")
    open_field(browser, tmp_path, field)
    assert "written as float16" in caplog.text
    error = np.abs(evaluated(browser, "page.backend", x, "value") - field(x).flatten().numpy()).max()
    assert 1e-5 < error < 2e-2
    rounded = windowed("packed", 2, 3)
    rounded.coefficients.copy_(field.coefficients.half())
    assert np.abs(evaluated(browser, "page.backend", x, "value") - rounded(x).flatten().numpy()).max() < 1e-4
    monkeypatch.setattr(pages, "LARGEST", field.coefficients.numel() * 2)
    with pytest.raises(UserError, match="expected at most 0; fit with fewer"):
        fit_page(field, ABOUT[2], "a field")


def colourful(kind):
    if kind == "siren":
        field = siren(2, 3, 64, 64, omega=60.0)
        field.layers[-1].weight *= 6  # as colourful as a picture
        return field
    i, j = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    picture = torch.stack([(1.1 * i + 0.4 * j).sin(), (0.9 * j - 0.5 * i).cos(), (0.8 * (i - j)).sin()], -1)
    return solve_raster((40, 60), lambda a, b: picture[a:b], 3, 0.5, (14, 14), (3, 3), decay=2.0).requires_grad_(False)


@pytest.mark.parametrize(("kind", "far"), [("siren", 6.0), ("windowed", 3.0)])
def test_pictures_at_two_zooms_and_of_derivatives_are_pythons(kind, far, browser, tmp_path):
    field = colourful(kind)
    open_field(browser, tmp_path, field)
    assert [url[:5] for url in browser.requests if not url.startswith("blob:")] == ["file:"]  # nothing from a network
    browser.run("frame.hidden = true")
    for centre, scale in (([0.0, 0.0], far), ([0.21, -0.4], 37.0)):
        times = show(browser, f"page.shown.centre = {centre}; page.shown.scale = {scale}")
        assert ("1" in times) == (scale < 10)  # from near, cubics between pixels do
        size, lower, upper = shown_region(browser)
        truth = 255 * unit(render_image(field, size, lower, upper)).numpy()
        picture = browser.screenshot("#canvas")
        assert picture.std() > 20
        assert np.abs(picture - truth).max() < 2
    pixels = grid(size, lower, upper)
    jets = [field.jet(part, second="laplacian") for part in pixels.split(8192)]
    gradient, laplacian = torch.cat([jet.gradient for jet in jets]), torch.cat([jet.laplacian for jet in jets])
    strengths = {
        "gradient": lambda full: 255 * gradient.flatten(1).norm(dim=1) / full,
        "laplacian": lambda full: 127.5 + 127.5 * laplacian.mean(1) / full,
    }
    for wanted, expected in strengths.items():
        show(browser, f"view.value = '{wanted}'; view.onchange()")
        full = browser.run("page.shown.white")
        truth = expected(full).clamp(0, 255).view(*size, 1).numpy()
        assert np.abs(browser.screenshot("#canvas") - truth).max() < 2
        said = re.search(r"white (\S+) ", browser.run("scale.textContent"))
        assert float(said[1]) == pytest.approx(full, rel=5e-3)


def test_512_pixels_of_the_papers_network_are_painted_at_once(browser, tmp_path):
    field = siren(2, 3, 256, 256, 256, 256)
    open_field(browser, tmp_path, field, samples=[512, 512])
    browser.resize((512, 512 + 480 - browser.run("canvas.height")))
    times = show(browser, "frame.hidden = true; page.shown.scale = 1")
    size, lower, upper = shown_region(browser)
    assert size == [512, 512]
    assert times["all"] < 5000  # ms: 200 on two cores of a busy machine, ten seconds without WebAssembly
    truth = 255 * unit(render_image(field, size, lower, upper)).numpy()
    assert np.abs(browser.screenshot("#canvas") - truth).max() < 2


def test_dragging_moves_and_the_wheel_zooms_around_the_pointer(browser, tmp_path):
    field = siren(2, 1, 16)
    open_field(browser, tmp_path, field)
    before = browser.run("page.shown.place(200, 300)")
    for kind, x, y in (("mousePressed", 300, 200), ("mouseMoved", 330, 220), ("mouseReleased", 330, 220)):
        browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert browser.run("page.shown.place(220, 330)") == pytest.approx(before)
    top = browser.run("canvas.getBoundingClientRect().top")
    under = "page.shown.place(99.5, 149.5)"
    before, scale = browser.run(under), browser.run("page.shown.scale")
    browser.send("Input.dispatchMouseEvent", type="mouseWheel", x=150, y=top + 100, deltaX=0, deltaY=-400)
    assert browser.run(under) == pytest.approx(before)
    assert browser.run("page.shown.scale") == pytest.approx(2 * scale)
    assert "value" in browser.run("cursor.textContent")
    show(browser, "frame.hidden = true")
    size, lower, upper = shown_region(browser)
    truth = 255 * unit(render_image(field, size, lower, upper)).numpy()
    assert np.abs(browser.screenshot("#canvas") - truth).max() < 2  # nothing of earlier pictures is left
    assert not browser.errors


def test_a_video_has_a_slider_for_time(browser, tmp_path):
    field = siren(3, 3, 32, 32)
    open_field(browser, tmp_path, field)
    show(browser, "slice.value = 0.4; slice.oninput(); frame.hidden = true")
    size, lower, upper = shown_region(browser)
    x = torch.cat([torch.full((size[0] * size[1], 1), 0.4), grid(size, lower, upper)], dim=1)
    assert np.abs(browser.screenshot("#canvas") - 255 * unit(field(x)).view(*size, 3).numpy()).max() < 2


def test_a_sound_is_computed_at_its_rate_drawn_and_played(browser, tmp_path):
    field = siren(1, 2, 32, 32, omega=300.0)
    open_field(browser, tmp_path, field)
    browser.run("page.shown.ready.then(() => 0)")
    wave = np.array(browser.run("[...page.shown.wave]")).reshape(-1, 2)
    assert np.abs(wave - render_sound(field, 3000).numpy()).max() < 1e-4
    whole = browser.screenshot("#canvas")
    show(browser, "page.shown.from = 100; page.shown.to = 120")
    near = browser.screenshot("#canvas")
    lit = near[: near.shape[0] // 2].argmax(0)[:, 2]  # rows of the first channel's curve
    height = near.shape[0] / 2
    width = near.shape[1]
    x = (2 * (100 + (torch.arange(width) + 0.5) * 20 / width) / 3000 - 1).unsqueeze(1)
    expected = 0.5 * height - 0.46 * height * field(x)[:, 0].numpy()
    assert np.abs(lit - expected).max() < 3
    assert not np.array_equal(whole, near)
    assert browser.run("page.shown.play(play).then(() => play.textContent)") == "stop"


@pytest.mark.parametrize("solved", [True, False])
def test_completions_have_sliders_for_pixels_and_samples(solved, browser, tmp_path):
    net = siren(2, 3, 16, 24)
    if solved:
        model = HyperSiren(None, None, net, LastLayerSolve(24))
    else:
        model = HyperSiren(SetEncoder(2 + 3, 8), FullHypernet(net.shapes, 8, 8), net)
    model.requires_grad_(False)
    colours = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    (tmp_path / "field.html").write_text(completion_page(model, tmp_path / "a.png", (12, 16), "<a>", samples=2))
    browser.open(tmp_path / "field.html")
    assert browser.run("document.title") == "<a>"
    assert browser.run("page.data.contexts.map(({ known }) => known)") == [10, 30, 100, 192]
    assert browser.run("choices.hidden") is not solved
    x = grid((5, 6))
    for at, known in ((0, 10), (3, 192)):
        photo = read_photo(tmp_path / "a.png", (12, 16), 3, context=known)
        found = prediction(model, photo.context)
        fields = [found.field(x)[0]]
        if solved:
            fields += [*net.bind(found.posterior.sample(2, torch.Generator().manual_seed(0)))(x)]
        for i, truth in enumerate(fields):
            browser.run(f"context.value = {at}; choice.value = {i}; context.oninput()")
            assert np.abs(evaluated(browser, "page.backend", x, "value") - truth.flatten().numpy()).max() < 1e-4
        assert browser.run("page.shown.known.length") == known
        cell, colour = browser.run("page.shown.known[3]")
        assert colour == "rgb({} {} {})".format(*colours.reshape(-1, 3)[cell])
    assert browser.run("page.data.tensors.length") < 30  # shared layers once


def test_a_graphics_card_computes_the_same(tmp_path):
    other = Browser(tmp_path, "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    try:
        field = siren(2, 3, 64, 70)
        page = tmp_path / "field.html"
        page.write_text(fit_page(field, ABOUT[2], "a field"))
        other.open(page, fragment="#gpu")
        if "WebGPU" not in other.run("page.backend.name"):
            pytest.skip("this browser has no WebGPU")
        x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
        jet = field.double().jet(x.double(), second="laplacian")
        for wanted in ("value", "gradient", "laplacian"):
            truth = getattr(jet, wanted).flatten().numpy()
            error = np.abs(evaluated(other, "page.backend", x, wanted) - truth).max()
            assert error < 1e-5 * max(1, np.abs(truth).max()), wanted
    finally:
        other.close()
