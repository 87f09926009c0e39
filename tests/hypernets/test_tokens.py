"""TokenEncoder and TokenHypernet with a LocalSiren: shapes, batch equals loop, a solved last layer, training, files."""

import pytest
import torch

import hypersiren
from hypersiren.completion.images.settings import CompletionSettings
from hypersiren.fields.coords import grid
from hypersiren.fields.local_siren import LocalSiren
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.encoders.token_encoder import TokenEncoder, TokenHypernet
from hypersiren.hypernets.full import FullHypernet
from hypersiren.hypernets.model import HyperSiren, build


def example(h=8, w=8, share=0.5, signals=2):
    images = torch.rand(signals, h, w, 3)
    return Context.from_rasters(images, torch.rand(signals, h, w) < share)


def model(adapter=None, hidden=(16, 24), **kwargs):
    torch.manual_seed(0)
    siren = LocalSiren(2, 3, hidden, first_omega=10, hidden_omega=8, token_size=(4, 4), token_features=8)
    encoder = TokenEncoder(3, (4, 4), token_features=8, widths=(8, 16), **kwargs)
    return HyperSiren(encoder, TokenHypernet(siren.shapes), siren, adapter)


def test_the_default_has_684512_weights():
    assert sum(p.numel() for p in TokenEncoder(3, (16, 16)).parameters()) == 684_512


@pytest.mark.parametrize("adapter", [None, LastLayerSolve(24)], ids=["plain", "solved"])
@pytest.mark.parametrize(("h", "w"), [(8, 8), (9, 5), (3, 12)])
def test_batch_equals_loop_at_any_size(adapter, h, w):
    hyper = model(adapter).double()
    context = example(h, w)
    context = Context(context.x.double(), context.y.double(), context.mask, context.size, context.cells)
    x = grid((5, 4), dtype=torch.float64)
    y = hyper(context, x)
    assert y.shape == (2, 20, 3)
    loop = torch.cat([hyper(context.signals(slice(i, i + 1)), x) for i in range(2)])
    torch.testing.assert_close(y, loop, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_stride_is_the_size_of_a_cell(stride):
    encoder = TokenEncoder(3, (16 // stride, 8 // stride), 8, stride, widths=(8, 16, 24))
    maps = []
    encoder.last.register_forward_hook(lambda module, inputs, output: maps.append(output))
    z = encoder(example(16, 8))
    assert maps[0].shape == (2, 8, 16 // stride, 8 // stride)
    torch.testing.assert_close(z, maps[0].flatten(2).mT)  # nothing is averaged


def test_a_token_hears_its_own_cell_most():
    encoder = model().encoder
    image = torch.zeros(1, 8, 8, 3)
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    changed = image.clone()
    changed[0, 6:, :2] = 1
    with torch.no_grad():
        tokens = [encoder(Context.from_rasters(i, mask)) for i in (image, changed)]
    assert (tokens[0] - tokens[1]).abs().sum(-1).argmax() == 3 * 4  # row 3, column 0


def test_the_last_layer_is_solved_on_features_of_each_signal():
    hyper = model(LastLayerSolve(128, noise=1e-6, double=True), hidden=(64, 128))
    context = example(share=2.0)
    with torch.no_grad():
        hyper.siren.tokens.normal_()  # must not be used
        prediction = hyper.predict(context)
        worst = (prediction.field(context.x) - context.y).abs().max()
    assert worst < 1e-2
    assert prediction.params["tokens"].shape == (2, 16, 8)
    assert prediction.posterior.variance(context.x).shape == (2, 64, 3)


@pytest.mark.parametrize("adapter", [None, LastLayerSolve(24)], ids=["plain", "solved"])
def test_everything_but_the_siren_s_own_tokens_is_trained(adapter):
    hyper = model(adapter)
    assert not hyper.siren.tokens.requires_grad
    context = example()
    hyper.field(context).jet(context.x, second="laplacian").laplacian.square().mean().backward()
    missing = {name for name, p in hyper.named_parameters() if p.requires_grad and p.grad is None}
    assert missing <= {"siren.layers.2.bias"}  # a constant has no derivatives


def test_saved_and_loaded(tmp_path):
    hyper = model(LastLayerSolve(24), stride=4).eval()  # as what is loaded
    hypersiren.save(hyper, tmp_path / "model.safetensors")
    again = hypersiren.load(tmp_path / "model.safetensors")
    context = example()
    with torch.no_grad():
        torch.testing.assert_close(again(context, context.x), hyper(context, context.x), rtol=0, atol=0)


def test_what_does_not_fit_is_refused_when_the_model_is_built():
    local = LocalSiren(2, 3, 16, 1, token_size=(4, 4), token_features=8)
    hypernet = TokenHypernet(local.shapes)
    for encoder in (TokenEncoder(3, (4, 4), 16), TokenEncoder(3, (4, 2), 8), SetEncoder(5, 8, 16)):
        with pytest.raises(ValueError, match="as the hypernetwork takes"):
            HyperSiren(encoder, hypernet, local)
    with pytest.raises(ValueError, match="as the hypernetwork takes"):
        HyperSiren(TokenEncoder(3, (4, 4), 8), FullHypernet({n: local.shapes[n] for n in local.last()}, 8), local)
    with pytest.raises(ValueError, match="the hypernetwork predicts"):
        HyperSiren(TokenEncoder(3, (4, 4), 8), hypernet, Siren(2, 3, 16, 1))
    with pytest.raises(ValueError, match="token_size"):
        HyperSiren(TokenEncoder(3, (2, 8), 8), hypernet, local)
    with pytest.raises(ValueError, match="LocalSiren"):
        TokenHypernet(Siren(2, 3, 16).shapes)
    with pytest.raises(ValueError, match="stride"):
        TokenEncoder(3, (4, 4), 8, stride=3)
    with pytest.raises(ValueError, match="expected tokens"):
        hypernet(torch.rand(2, 15, 8))


def test_settings_build_tokens_and_the_prior_is_where_they_start():
    settings = CompletionSettings.model_validate(
        {"siren": {"hidden_features": (8, 64)}, "encoder": {"kind": "tokens", "token_size": (4, 4), "widths": (8, 16)}}
    )
    parts = {name: getattr(settings, name).model_dump() for name in ("siren", "encoder", "hypernet", "adapter")}
    torch.manual_seed(0)
    hyper = build(**parts, channels=3)
    assert isinstance(hyper.siren, LocalSiren)
    hyper.set_prior([torch.randn(20, 8, 8, 3)])
    context, x = example(), grid((5, 5))
    alone = HyperSiren(None, None, hyper.siren, hyper.adapter)
    torch.testing.assert_close(hyper(context, x), alone(context, x), rtol=1e-4, atol=1e-5)
    hyper(context, x).square().mean().backward()
    assert hyper.encoder.last.weight.grad.any()  # and from there it learns


@pytest.mark.parametrize("encoder", [{"kind": "none"}, {"kind": "set", "latent_features": 8}])
def test_settings_build_gradient_steps(encoder):
    adapter = {"kind": "gradient", "steps": 2, "token_size": (2, 2), "token_features": 4}
    settings = CompletionSettings.model_validate(
        {"siren": {"hidden_features": 8}, "encoder": encoder, "adapter": adapter, "hypernet": {"hidden_features": 8}}
    )
    parts = {name: getattr(settings, name).model_dump() for name in ("siren", "encoder", "hypernet", "adapter")}
    found = build(**parts, channels=3).predict(example())
    assert found.z.shape == ((2, 4, 4) if encoder["kind"] == "none" else (2, 8))
    assert found.field(grid((3, 3))).shape == (2, 9, 3)


def test_a_stride_without_a_width_is_refused():
    with pytest.raises(ValueError, match=r"expected a stride of \[2, 4\], one for each width, got 8"):
        CompletionSettings.model_validate({"encoder": {"kind": "tokens", "stride": 8, "widths": (8, 16)}})
