"""Weights of a SIREN that other code has trained, and ours for that code: siren-pytorch and vsitzmann/siren.

A file of weights holds neither the frequency factors nor the grid that the network was trained on; both are facts of
the code that wrote it:

    siren-pytorch      sin(30 (W x + b)) in the first layer, sin(W h + b) in the hidden ones
    vsitzmann/siren    sin(30 (W x + b)) everywhere; the network of its repository, or of its notebook

Their grids have points at -1 and 1, ours have cell centres: on n samples theirs = ours n / (n - 1), a factor that the
first layer's weights can take. Symbols: D coordinate dimensions, H widths, C channels.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hypersiren.errors import UserError, did_you_mean
from hypersiren.fields.siren import Siren


@dataclass(frozen=True)
class Peer:
    """The code of others.

    Attributes:
        first_omega, hidden_omega: Its frequency factors, unless told otherwise.
        names: The name of a layer's weights, of the so-manieth of so many; the first of them is written.
    """

    first_omega: float
    hidden_omega: float
    names: Sequence[Callable[[int, int], str]]


PEERS = {
    "siren-pytorch": Peer(30.0, 1.0, [lambda i, n: f"layers.{i}" if i < n - 1 else "last_layer"]),
    "vsitzmann": Peer(
        30.0,
        30.0,
        [
            lambda i, n: f"net.net.{i}.0",
            lambda i, n: f"net.{i}.0",
            lambda i, n: f"net.{i}.linear" if i < n - 1 else f"net.{i}",
        ],
    ),
}
"""Values of `like`: siren-pytorch's SirenNet, also in a SirenWrapper; vsitzmann's SingleBVPNet, its FCBlock, and the
Siren of its notebook."""

WRAPPED = re.compile(r"(module\.)?(net\.(?=layers\.|last_layer\.))?")
"""What stands before the names of a network in nn.DataParallel, or in siren-pytorch's SirenWrapper."""

NOT_WEIGHTS = ("grid", "image_downsampling.sidelength")


def find_peer(like: str) -> Peer:
    """The code of this name.

    Raises:
        UserError: If it is not known.
    """
    if like not in PEERS:
        raise UserError(f"like: expected {' or '.join(PEERS)}, got {like!r}{did_you_mean(str(like), PEERS)}")
    return PEERS[like]


def from_peer(
    state: Mapping[str, Tensor],
    like: str,
    *,
    corners: Sequence[int] | None = None,
    first_omega: float | None = None,
    hidden_omega: float | None = None,
) -> Siren:
    """A Siren with the weights that other code has trained, in float64 if they are, else in float32.

    Args:
        state: Its state dict.
        like: A name of `PEERS`.
        corners: The samples of the grid with points at -1 and 1 that it was trained on, such as (height, width): the
            field then has on `grid(corners)` what it had there. None: it has at x what it had at x.
        first_omega, hidden_omega: Its frequency factors (w0_initial and w0 of siren-pytorch), if they are not its
            defaults.

    Raises:
        UserError: If the weights are not those of such a network.

    Example:
        >>> siren = Siren(2, 3, 16, hidden_omega=1.0)
        >>> same = from_peer(to_peer(siren, "siren-pytorch"), "siren-pytorch")
        >>> same
        Siren(2 -> 16 x 4 -> 3, omega 30/1)
        >>> x = torch.rand(5, 2)
        >>> torch.allclose(siren(x), same(x), atol=1e-5)
        True
    """
    peer = find_peer(like)
    given = {WRAPPED.sub("", name, 1): value for name, value in state.items()}
    given = {name: value for name, value in given.items() if name not in NOT_WEIGHTS}
    count = sum(name.endswith(".weight") for name in given)
    for namer in peer.names:
        names = [namer(i, count) for i in range(count)]
        known = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
        if count >= 2 and given.keys() <= known and all(f"{name}.weight" in given for name in names):
            break
    else:
        expected = ", ".join(f"{namer(0, 9)}.weight" for namer in peer.names)
        raise UserError(
            f"not the weights of a SIREN of {like}: expected {expected} and so on, got {', '.join(list(given)[:3])} ..."
        )
    weights = [given[f"{name}.weight"].double() for name in names]
    if any(w.ndim != 2 for w in weights) or any(a.shape[0] != b.shape[1] for a, b in pairwise(weights)):
        raise UserError(f"not the weights of a SIREN of {like}: got shapes {[tuple(w.shape) for w in weights]}")
    biases = [given.get(f"{name}.bias", torch.zeros(len(w))) for name, w in zip(names, weights, strict=True)]
    weights[0] = weights[0] * _stretch(corners, weights[0].shape[1])
    siren = Siren(
        weights[0].shape[1],
        len(weights[-1]),
        tuple(len(w) for w in weights[:-1]),
        first_omega=peer.first_omega if first_omega is None else first_omega,
        hidden_omega=peer.hidden_omega if hidden_omega is None else hidden_omega,
    )
    kept = torch.float64 if given[f"{names[0]}.weight"].dtype == torch.float64 else torch.float32
    siren.to(kept).load_state_dict(
        {
            f"layers.{i}.{part}": value
            for i, pair in enumerate(zip(weights, biases, strict=True))
            for part, value in zip(("weight", "bias"), pair, strict=True)
        }
    )
    return siren


def to_peer(
    siren: nn.Module,
    like: str,
    *,
    corners: Sequence[int] | None = None,
    first_omega: float | None = None,
    hidden_omega: float | None = None,
) -> dict[str, Tensor]:
    """The weights of a Siren as the state dict of other code, which then has the same values.

    Its frequency factors may differ from ours: what they differ by goes into the weights.

    Args:
        siren: The field.
        like, corners, first_omega, hidden_omega: As in `from_peer`; of that code's network.

    Raises:
        UserError: If it is another kind of field.

    Example:
        >>> list(to_peer(Siren(2, 3, 16, 1), "vsitzmann"))[:3]
        ['net.net.0.0.weight', 'net.net.0.0.bias', 'net.net.1.0.weight']
    """
    peer = find_peer(like)
    if type(siren) is not Siren:
        raise UserError(f"like={like!r} takes a Siren, got a {type(siren).__name__}")
    layers = siren._linears()
    theirs = [peer.first_omega if first_omega is None else first_omega]
    theirs += [peer.hidden_omega if hidden_omega is None else hidden_omega] * (len(layers) - 2)
    state: dict[str, Tensor] = {}
    for i, layer in enumerate(layers):
        factor = siren._omegas()[i] / theirs[i] if i < len(theirs) else 1.0
        weight, bias = (factor * value.detach().cpu().double() for value in (layer.weight, layer.bias))
        if i == 0:
            weight = weight / _stretch(corners, siren.in_features)
        name = peer.names[0](i, len(layers))
        state |= {f"{name}.weight": weight.to(layer.weight.dtype), f"{name}.bias": bias.to(layer.bias.dtype)}
    return state


def _stretch(corners: Sequence[int] | None, axes: int) -> Tensor:
    """Their coordinates for ours: n / (n - 1) along each axis.

    Example:
        >>> _stretch((5, 3), 2)
        tensor([1.2500, 1.5000], dtype=torch.float64)
    """
    if corners is None:
        return torch.ones(axes, dtype=torch.float64)
    if len(corners) != axes or min(corners) < 2:
        raise UserError(f"corners: expected at least 2 samples along each of {axes} axes, got {tuple(corners)}")
    samples = torch.tensor(list(corners), dtype=torch.float64)
    return samples / (samples - 1)
