"""Weights of siren-pytorch and of vsitzmann/siren: read, written, and back; equal values on their own code's grid."""

from itertools import pairwise

import pytest
import safetensors.torch
import torch
from siren_pytorch import SirenNet, SirenWrapper
from torch import nn

from hypersiren import Image, Siren, UserError, WindowedSiren, fit, grid, load, save
from hypersiren.fields.peers import from_peer, to_peer

# dimensions, widths, sine layers, channels, samples of the grid, omegas
CASES = [
    (2, 64, 4, 3, (32, 24), (30.0, 1.0)),
    (2, 256, 2, 1, (16, 16), (30.0, 1.0)),
    (1, 32, 5, 2, (200,), (300.0, 1.0)),
    (3, 48, 3, 3, (5, 9, 7), (10.0, 2.5)),
    (2, 20, 1, 1, (2, 40), (60.0, 30.0)),
]


def corner_grid(size):
    axes = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def omegas_of(omegas):
    return {"first_omega": omegas[0], "hidden_omega": omegas[1]}


@pytest.mark.parametrize(("dims", "width", "layers", "channels", "size", "omegas"), CASES)
def test_siren_pytorch_there_and_back(tmp_path, dims, width, layers, channels, size, omegas):
    torch.manual_seed(layers)
    theirs = SirenNet(dims, width, channels, layers, w0_initial=omegas[0], w0=omegas[1])
    path = tmp_path / "theirs.pth"
    torch.save(theirs.state_dict(), path)
    told = omegas_of(omegas)
    single = load(path, like="siren-pytorch", corners=size, **told)
    own = theirs(corner_grid(size).float())
    # Two orders of rounding: twice the distance of their float32 from their float64.
    exact = theirs.double()
    wanted = exact(corner_grid(size))
    assert (single(grid(size)) - own).abs().max() <= 1e-6 + 2 * (own - wanted).abs().max()
    torch.save(exact.state_dict(), path)
    ours = load(path, like="siren-pytorch", corners=size, **told)
    assert (ours(grid(size, dtype=torch.float64)) - wanted).abs().max() < 1e-6
    assert not any(p.requires_grad for p in ours.parameters())
    # and back, into a network of their own defaults for the omegas
    save(ours, tmp_path / "back.pth", like="siren-pytorch", corners=size)
    again = SirenNet(dims, width, channels, layers).double()
    again.load_state_dict(torch.load(tmp_path / "back.pth"))
    assert (again(corner_grid(size)) - wanted).abs().max() < 1e-6
    # and once more to us: the same field
    last = load(tmp_path / "back.pth", like="siren-pytorch", corners=size)
    x = torch.rand(50, dims, dtype=torch.float64) * 2 - 1
    assert (last(x) - ours(x)).abs().max() < 1e-6


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
def test_a_wrapper_of_siren_pytorch_and_its_picture(wrap):
    torch.manual_seed(0)
    wrapper = SirenWrapper(SirenNet(2, 32, 3, 3), image_width=20, image_height=30).double()
    wrapper.grid = corner_grid((30, 20))  # theirs is rounded to float32
    picture = wrapper()[0].permute(1, 2, 0)
    found = from_peer(wrap(wrapper).state_dict(), "siren-pytorch", corners=(30, 20))
    assert (found(grid((30, 20), dtype=torch.float64)).view(30, 20, 3) - picture).abs().max() < 1e-6


def test_without_bias():
    net = SirenNet(2, 16, 1, 2, use_bias=False)
    x = torch.rand(9, 2)
    assert torch.allclose(from_peer(net.state_dict(), "siren-pytorch")(x), net(x), atol=1e-5)


class Times(nn.Module):
    def forward(self, x):
        return torch.sin(30 * x)


def of_repository(sizes):
    """Linear layers in the order and with the names of SingleBVPNet."""
    layers = [nn.Sequential(nn.Linear(a, b), Times()) for a, b in pairwise(sizes[:-1])]
    block = nn.Module()
    block.net = nn.Sequential(*layers, nn.Sequential(nn.Linear(*sizes[-2:])))
    outer = nn.Module()
    outer.net = block
    return outer, block.net


class Named(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.linear = nn.Linear(a, b)

    def forward(self, x):
        return torch.sin(30 * self.linear(x))


def of_notebook(sizes):
    outer = nn.Module()
    layers = [Named(a, b) for a, b in pairwise(sizes[:-1])]
    outer.net = nn.Sequential(*layers, nn.Linear(*sizes[-2:]))
    return outer, outer.net


@pytest.mark.parametrize("make", [of_repository, of_notebook])
@pytest.mark.parametrize(("sizes", "size"), [((2, 32, 32, 32, 1), (20, 30)), ((1, 64, 64, 2), (99,))])
def test_vsitzmann_there_and_back(tmp_path, make, sizes, size):
    torch.manual_seed(len(sizes))
    outer, net = make(sizes)
    net.double()
    wanted = net(corner_grid(size))
    torch.save({"model": outer.state_dict()}, tmp_path / "model_final.pth")
    ours = load(tmp_path / "model_final.pth", like="vsitzmann", corners=size)
    assert ours.hidden_omega == 30
    assert (ours(grid(size, dtype=torch.float64)) - wanted).abs().max() < 1e-6
    other, back = of_repository(sizes)
    save(ours, tmp_path / "back.pt", like="vsitzmann", corners=size)
    other.double().load_state_dict(torch.load(tmp_path / "back.pt"))
    assert (back(corner_grid(size)) - wanted).abs().max() < 1e-6


def test_a_fit_of_ours_is_their_picture(tmp_path):
    """Omegas that their code has not go into the weights."""
    task = Image(torch.rand(12, 10, 1) * 2 - 1)
    result = fit(task, steps=20, network={"kind": "siren", "hidden_features": 16, "first_omega": 40.0})
    for ending in (".pth", ".safetensors"):
        path = tmp_path / f"ours{ending}"
        save(result.field, path, like="siren-pytorch", corners=task.size)
        wrapper = SirenWrapper(SirenNet(2, 16, 1, 4), image_width=10, image_height=12)
        state = torch.load(path) if ending == ".pth" else safetensors.torch.load_file(path)
        wrapper.net.load_state_dict(state)
        assert (wrapper()[0, 0] - result.field(task.grid).view(12, 10)).abs().max() < 2e-5


@pytest.mark.parametrize(
    ("state", "like", "more", "message"),
    [
        ({"a.weight": torch.zeros(2, 2)}, "siren-pytorch", {}, "not the weights of a SIREN of siren-py"),
        ({}, "vsitzmann", {}, "not the weights"),
        ({"layers.0.weight": torch.zeros(4, 2), "last_layer.weight": torch.zeros(1, 5)}, "siren-pytorch", {}, "shapes"),
        ({"layers.0.weight": torch.zeros(4, 2), "last_layer.weight": torch.zeros(1, 4)}, "siren-pytorch",
         {"corners": (5,)}, "corners: expected at least 2 samples along each of 2 axes"),
        ({}, "siren_pytorch", {}, 'did you mean "siren-pytorch"'),
    ],
)  # fmt: skip
def test_what_is_no_such_network_is_one_line(tmp_path, state, like, more, message):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "a.pth", like=like, **more)
    assert "\n" not in str(caught.value)


def test_mistakes(tmp_path):
    siren = Siren(2, 1, 8)
    modulated = SirenWrapper(SirenNet(2, 16, 1, 2), image_width=3, image_height=3, latent_dim=4)
    with pytest.raises(UserError, match="not the weights"):
        from_peer(modulated.state_dict(), "siren-pytorch")
    with pytest.raises(UserError, match="takes a Siren, got a WindowedSiren"):
        to_peer(WindowedSiren(siren, (2, 2)), "vsitzmann")
    with pytest.raises(UserError, match=r"expected the ending \.pth"):
        save(siren, tmp_path / "a.bin", like="vsitzmann")
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.pth", like="vsitzmann")
    (tmp_path / "text.pth").write_text("no")
    with pytest.raises(UserError, match="not a file of weights that is safe to read"):
        load(tmp_path / "text.pth", like="vsitzmann")
    save(siren, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="corners: expected like="):
        load(tmp_path / "a.safetensors", corners=(3, 3))
    with pytest.raises(UserError, match="hidden_omega: expected like="):
        save(siren, tmp_path / "b.safetensors", hidden_omega=1.0)
