"""The whole path of every task, encoder and adapter on a GPU, in tiny sizes: a fake one, see `fake_cuda`.

pytest -m device        all of it (minutes); five cases are part of every run of the tests
"""

import pytest
import torch

import hypersiren
from hypersiren import Completion, Context, HyperSiren, LastLayerSolve, Siren, evaluate, grid, load, save
from hypersiren.cli.main import main

pytestmark = pytest.mark.device

CASES = []


def case(function=None, *, quick=False):
    """Make a test of a function; a quick one is part of every run."""
    if function is None:
        return lambda f: case(f, quick=quick)
    CASES.append(pytest.param(function, id=function.__name__, marks=[pytest.mark.quick] if quick else []))
    return function


def cli(*words):
    code = None
    try:
        main([str(word) for word in words])
    except SystemExit as error:
        code = error.code
    assert code in (None, 0), words


SMALL = ("--network.hidden_features", 16, "--network.hidden_layers", 2, "--device", "cuda")
WAVES = (*SMALL, "--points", 300, "--cells", 64)
HELMHOLTZ = (*WAVES, "--wavenumber", 5)


def fit(task, *words, steps=3, out="run", small=SMALL):
    cli("fit", task, *words, "--steps", steps, *small, "--out", out, "--restart")


@case(quick=True)
def image():
    fit("image", "in/a.png", "--size", 32, "--validate_every", 2, "--training.parts", 2)
    cli("fit", "image", "in/a.png", "--size", 32, "--validate_every", 2, "--steps", 5, *SMALL, "--out", "run")
    for device in ("cuda", "cpu"):
        cli("render", "run", "--size", 48, "--device", device)
    cli("export", "run", "--html")


@case
def image_otherwise():
    fit("image", "in/a.png", "--mask", "in/mask.png", "--share", 0.5)
    fit("image", "in/a.png", "--size", 32, "--preset", "paper")
    for optimizer in ("adam", "lbfgs"):
        fit("image", "in/a.png", "--size", 32, "--optimizer", optimizer)
    for kind in ("relu", "tanh", "softplus", "relu_pe", "relu_fourier", "rbf", "wire", "finer"):
        fit("image", "in/a.png", "--size", 16, "--network.kind", kind, steps=2)


@case
def devices_change():
    fit("image", "in/a.png", "--size", 16, small=("--network.hidden_features", 16, "--device", "cpu"))
    cli("render", "run", "--size", 20, "--device", "cuda")
    more = ("--network.hidden_features", 16, "--device", "cuda", "--out", "run")
    cli("fit", "image", "in/a.png", "--size", 16, "--steps", 5, *more)


@case
def inpaint():
    fit("inpaint", "in/a.png", "--size", 32, "--share", 0.2)
    fit("inpaint", "in/a.png", "--size", 32, "--preset", "paper")


@case
def poisson():
    fit("poisson", "in/a.png", "--size", 32)
    fit("poisson", "in/a.png", "--size", 32, "--target", "laplacian", "--filter", "stencil")
    fit("poisson", "in/a.png", "--size", 32, "--preset", "paper")
    fit("poisson", "in/a.png", "--size", 32, "--network.kind", "tanh")


@case
def edit():
    fit("edit", "in/a.png", "in/b.png", "--mask", "in/mask.png", "--offset", "1,2")
    fit("edit", "in/a.png", "in/b.png")


@case
def audio():
    fit("audio", "in/a.wav")
    cli("render", "run", "--rate", 16000, "--device", "cuda")


@case
def video():
    fit("video", "--size", "18x24", "--frames", 4)
    cli("render", "run", "--size", 20, "--device", "cuda")


@case(quick=True)
def sdf():
    fit("sdf", "in/ball.xyz", "--resolution", 24, "--points", 300)
    cli("mesh", "run", "--size", 24, "--device", "cuda", "--out", "ball.ply", "--truth", "in/ball.xyz")


def solve(task, *words):
    cli("fit", task, *words, "--network.kind", "windowed", "--device", "cuda", "--out", "run", "--restart")


@case(quick=True)
def windows():
    solve("image", "in/a.png", "--network.window", 12, "--steps", 3, "--validate_every", 2, "--training.points", 200)
    for size in (48, 41):  # in step with the windows, and not
        cli("render", "run", "--size", size, "--device", "cuda")
    cli("render", "run", "--size", 20, "--region", 0.2, 0.2, 0.6, 0.7, "--device", "cuda")
    for form in ("--html", "--torch"):
        cli("export", "run", form)
    field = load("run").to("cuda").requires_grad_()
    x = grid((5, 7), device="cuda")
    for second in ("laplacian", "diagonal", "full"):
        field.jet(x, second=second).value.sum().backward()


@case
def windows_otherwise():
    solve("audio", "in/a.wav")
    cli("render", "run", "--rate", 16000, "--device", "cuda")
    solve("video", "--size", "18x24", "--frames", 4)
    cli("render", "run", "--size", 20, "--device", "cuda")
    solve("poisson", "in/a.png", "--size", 32)
    solve("image", "in/a.png", "--size", 32, "--network.numbers", 0.3)
    fields = "windowed,siren"
    cli("compare", "image", "in/a.png", "--size", 16, "--fields", fields, "--steps", 2, *SMALL, "--out", "compared")


@case
def sdf_otherwise():
    fit("sdf", "in/ball.xyz", "--preset", "paper", "--resolution", 32)
    small = ("--network.hidden_features", 32, "--network.hidden_layers", 2, "--device", "cuda", "--points", 200)
    reach = ("--reach", "0.5,5.5", "--sensor", "0,0,0", "--trim", 0.2, "--resolution", 32)
    fit("sdf", "in/ball.xyz", *reach, steps=60, small=small)
    cli("mesh", "run", "--size", 40, "--device", "cuda", "--out", "ball.ply")


@case
def helmholtz():
    fit("helmholtz", "--preset", "paper", small=HELMHOLTZ)
    for medium in ((), ("square",), ("in/velocity.npy",)):
        fit("helmholtz", *medium, small=HELMHOLTZ)


@case
def wave():
    small = (*WAVES, "--variance", 0.01)
    fit("wave", "--preset", "paper", small=small)
    fit("wave", small=small)
    fit("wave", "in/velocity.npy", small=small)


@case
def inversion():
    few = ("--signal.cells", 64, "--sources", 2, "--receivers", 4)
    fit("inversion", "--preset", "paper", "--points", 300, "--wavenumber", 5, *few)
    fit("inversion", "square", "--wavenumber", "3,5", "--loss.cells", 32, *few)
    words = ("square", "--wavenumber", 5, "--loss.cells", 32, "--steps", 2, *few, *SMALL)
    cli("compare", "inversion", *words, "--fields", "siren,pixels", "--out", "compared")


def stop(step, values):
    return True


@case
def resume_in_python():
    pixels, more = torch.rand(16, 16, 3, device="cuda") * 2 - 1, {"steps": 6, "log_every": 3}
    more["network"] = {"hidden_features": 16}
    for kind in ("adam", "muon", "lbfgs"):
        runs = {**more, "run_dir": kind, "optimizer": kind}
        assert not hypersiren.fit(hypersiren.Image(pixels), on_log=stop, **runs).finished
        assert hypersiren.fit(hypersiren.Image(pixels), **runs).finished
    for name, first, then in (("there", pixels, pixels.cpu()), ("back", pixels.cpu(), pixels)):
        assert not hypersiren.fit(hypersiren.Image(first), on_log=stop, run_dir=name, **more).finished
        result = hypersiren.fit(hypersiren.Image(then), run_dir=name, **more)
        assert result.finished
        assert next(result.field.parameters()).device == then.device
    result.render(20)
    result.plot("picture.png")
    result.save("field.safetensors")
    for device in ("cuda", "cpu"):
        field = load("field.safetensors", device)
        assert next(field.parameters()).device.type == device
        assert evaluate(field, grid((8, 8), device=device)).device.type == device
    assert load("back", "cuda").jet(grid((8, 8), device="cuda"), second="full").hessian.device.type == "cuda"
    start = dict(result.field.named_parameters())
    hypersiren.fit(hypersiren.Image(pixels), init=start, steps=2, network={"hidden_features": 16}).render()


@case(quick=True)
def completion_in_python():
    model = HyperSiren(None, None, Siren(2, 3, hidden_features=(16, 64)), LastLayerSolve(64)).to("cuda")
    faces = Completion(torch.randint(0, 256, (20, 16, 16, 3), dtype=torch.uint8, device="cuda"), batch_size=8)
    model.set_prior(faces.prior_signals(copies=1, finer=2))
    model = hypersiren.train(model, faces, steps=2).model
    images, mask = (torch.rand(4, 16, 16, 3) * 2 - 1).to("cuda"), (torch.rand(4, 16, 16) < 0.1).to("cuda")
    found = model.predict(Context.from_images(images, mask))
    evaluate(found.field, grid((32, 32), device="cuda"), chunk=512)
    found.field.jet(grid((8, 8), device="cuda"), second="laplacian")
    found.posterior.variance(grid((8, 8), device="cuda")).sqrt()
    found.posterior.sample(3)
    found.posterior.sample(3, torch.Generator("cuda").manual_seed(0))
    save(model, "model.safetensors")
    load("model.safetensors", "cuda")


@case
def resume_of_a_hypernetwork():
    for first, then in (("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")):
        for device, on_log in ((first, lambda step, values: step > 0), (then, None)):
            torch.manual_seed(0)
            images = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8).to(device)
            model = HyperSiren(None, None, Siren(2, 3, hidden_features=(16, 64)), LastLayerSolve(64)).to(device)
            more = {"steps": 4, "log_every": 2, "run_dir": f"{first}-{then}", "on_log": on_log}
            done = hypersiren.train(model, Completion(images, batch_size=8), **more)
            assert done.finished == (on_log is None)


TINY = ("--training.batch_size", 4, "--device", "cuda")
PICTURES = ("--data.kind", "folder", "--data.root", "in/pictures", "--data.size", 16, "--context.most", 100)
SOLVE = ("--siren.hidden_features", "[16,64]")
SET = ("--siren.hidden_features", 16, "--encoder.kind", "set", "--adapter.kind", "none")
CONV = (*SOLVE, "--encoder.kind", "conv", "--encoder.widths", "[8,16]", "--encoder.basis", 8)
TOKENS = ("--siren.hidden_features", 16, "--encoder.kind", "tokens", "--encoder.token_size", "[8,8]")
TOKENS += ("--encoder.widths", "[8,16]", "--adapter.kind", "none")
MIXTURE = (*SOLVE, "--adapter.kind", "mixture", "--adapter.priors", 2)


def train(*words, steps=2, data=PICTURES, out="run"):
    cli("train", *data, *words, "--training.steps", steps, *TINY, "--out", out, "--restart")


def complete(*words):
    cli("complete", "run", *words, "--device", "cuda")


@case
def faces():
    train("--config", "faces", *SOLVE, "--validate_every", 2, data=())
    cli("train", "--config", "faces", *SOLVE, "--validate_every", 2, "--training.steps", 3, *TINY, "--out", "run")
    mask = ("--mask", "in/mask.png")
    for more in ((), ("--samples", 2), ("--refine", 2), mask, ("--size", 40, "--extent", 1.5)):
        complete("in/a.png", *more)
    complete("in/a.png", "in/b.png", "--interpolate", 3)
    cli("complete", "run", "in/a.png", "--device", "cpu")
    complete("--baseline_images", 3, "--out", "table")


@case
def solve_otherwise():
    train("--siren.hidden_features", "[16,32]", "--loss.likelihood", 0.1)
    train(*SOLVE, "--context.alike", "true", "--adapter.double", "true")
    train(*SOLVE, "--context.alike", "false", "--training.accumulate", 2, "--target_points", 50)
    train(*SOLVE, "--data.in_memory", "false")


@case
def mixture():
    train(*MIXTURE)
    complete("in/a.png", "--samples", 2)
    train(*MIXTURE, "--adapter.rank", 16, "--adapter.covariance", "true", "--loss.likelihood", 0.1)


@case(quick=True)
def set_encoder():
    train(*SET, "--encoder.hidden_features", 16, "--hypernet.hidden_features", 16)
    complete("in/a.png")
    complete("in/a.png", "in/b.png", "--interpolate", 3)


@case
def paper_encoders():
    small = ("--siren.hidden_features", 16, "--hypernet.hidden_features", 16, "--encoder.latent_features", 16)
    train("--config", "celeba_set", "--encoder.hidden_features", 16, *small)
    for config in ("celeba_cnn", "celeba_pconv"):
        train("--config", config, "--encoder.size", "[16,16]", *small)


@case
def conv_encoder():
    train(*CONV, "--encoder.latent_features", 16)
    train(*CONV, "--adapter.kind", "none")


@case
def tokens_and_gradient_steps():
    train(*TOKENS)
    complete("in/a.png", "--refine", 2)
    gradient = ("--siren.hidden_features", 16, "--adapter.kind", "gradient", "--adapter.token_features", 8)
    train(*gradient)
    train(*gradient, "--adapter.token_size", "[4,4]")


@case
def autocast():
    for parts in (CONV, SET, TOKENS, SOLVE):
        train(*parts, "--training.autocast", "true", "--training.tf32", "true")


@case
def sounds():
    digits = ("--config", "digits", "--data.root", "in/sounds", "--data.window", 128)
    train("--siren.hidden_features", "[32,64]", "--adapter.priors", 2, "--adapter.rank", 16, data=digits)
    complete("in/a.wav")
    complete("in/a.wav", "--gap", 4, "--samples", 2)


@case
def solids():
    data = ("--config", "solids", "--data.count", 16, "--training.target_points", 32, "--resolution", 24)
    train("--siren.hidden_features", "[16,64]", "--prior.copies", 1, data=data)
    complete("in/ball.xyz", "--context", 100, "--size", 24)
    complete("in/ball.xyz", "--context", 100, "--size", 24, "--refine", 2)
    train(*SET, data=data)


@case
def released_models():
    cli("complete", "faces", "in/a.png", "--device", "cuda", "--out", "faces", "--samples", 2)


@case
def compare():
    words = ("--size", 16, "--steps", 2, "--fields", "siren,relu_pe", *SMALL)
    cli("compare", "image", "in/a.png", *words, "--out", "image")
    cli("compare", "helmholtz", "--fields", "siren,pinn", "--steps", 2, *HELMHOLTZ, "--out", "helmholtz")


@case
def initialisation():
    cli("initialisation", "--hidden_features", 16, "--out", "init.png")


@case
def benchmarks():
    few = ("--width", 16, "--rounds", 1, "--device", "cuda")
    cli("benchmark", "steps", "sdf", "--no-compiled", "--points", 64, *few)
    cli("benchmark", "render", "--sizes", "32", *few)


@pytest.mark.parametrize("function", CASES)
def test_the_whole_path(function, cuda):
    function()
