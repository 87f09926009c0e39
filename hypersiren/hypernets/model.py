"""HyperSiren: an encoder and a hypernetwork that predict the weights of a hypo-SIREN for each signal (section 4.4).

Context -> encoder -> z -> hypernetwork -> Params -> SIREN(x) -> y
"""

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.errors import UserError
from hypersiren.fields.local_siren import LocalSiren
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import BoundSiren, Params, Siren
from hypersiren.hypernets.adapters.base import HeldOut, Prediction
from hypersiren.hypernets.adapters.gradient_steps import GradientSteps
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.adapters.mixture import MixtureSolve
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.encoders.conv_encoder import ConvEncoder
from hypersiren.hypernets.encoders.paper_encoder import PaperConvEncoder
from hypersiren.hypernets.encoders.precision import convolutions
from hypersiren.hypernets.encoders.set_encoder import SetEncoder
from hypersiren.hypernets.encoders.token_encoder import TokenEncoder, TokenHypernet
from hypersiren.hypernets.full import FullHypernet
from hypersiren.hypernets.gaussian.observations import Values

ENCODERS: dict[str, type[nn.Module]] = {
    "set": SetEncoder,
    "conv": ConvEncoder,
    "tokens": TokenEncoder,
    "paper_conv": PaperConvEncoder,
}

HYPERNETS: dict[str, type[nn.Module]] = {"full": FullHypernet}

ADAPTERS: dict[str, Any] = {"solve": LastLayerSolve, "mixture": MixtureSolve, "gradient": GradientSteps}


@savable
class HyperSiren(nn.Module):
    """Predicts a field for each of B signals from their contexts.

    Weights that the hypernetwork predicts are frozen in `siren`; those it does not predict, if any, are shared by all
    signals and trained. An adapter fits the prediction to the context, in training too; with one, encoder and
    hypernetwork may be left out, and the encoder alone where the adapter finds z by itself.

    Args:
        encoder: From a context to a latent z for each signal, or to tokens; None for none.
        hypernet: From z to weights; None where there is no z.
        siren: The hypo-SIREN.
        adapter: Fits the prediction to the context: `LastLayerSolve` its last layer, `GradientSteps` its z. One of your
            own may have a prior, a calibration and learning rates: see `hypersiren.hypernets.adapters.base.Adapter`.

    Raises:
        UserError: If the encoder cannot read the dimensions of the hypo-SIREN's coordinates.
        ValueError: If nothing gives a z that the hypernetwork takes, or nothing takes the encoder's, or the latent has
            another number of features or tokens than the hypernetwork takes, or the hypernetwork predicts what the
            hypo-SIREN does not have.

    Example:
        >>> import torch
        >>> siren = Siren(2, 3, hidden_features=16)
        >>> hyper = HyperSiren(SetEncoder(2 + 3, 32), FullHypernet(siren.shapes, 32, 64), siren)
        >>> images, mask = torch.rand(4, 8, 8, 3), torch.rand(4, 8, 8) < 0.5
        >>> hyper(Context.from_images(images, mask), torch.rand(100, 2)).shape
        torch.Size([4, 100, 3])
        >>> solved = HyperSiren(None, None, siren, LastLayerSolve(16)).predict(Context.from_images(images, mask))
        >>> solved.posterior.variance(torch.rand(5, 2)).shape
        torch.Size([4, 5, 3])
    """

    def __init__(
        self,
        encoder: nn.Module | None,
        hypernet: nn.Module | None,
        siren: Siren,
        adapter: nn.Module | None = None,
    ):
        super().__init__()
        finds = getattr(adapter, "latent_features", None) is not None  # z, from the hypernetwork alone
        if (encoder is not None or finds) != (hypernet is not None) or (encoder is None and adapter is None):
            raise ValueError(
                "expected an encoder and a hypernetwork, an adapter, or all three, "
                "or a hypernetwork and an adapter that finds its latent, such as GradientSteps"
            )
        if hypernet is not None:
            _check_latent(encoder, hypernet)
            _check_latent(adapter, hypernet)
            _check_shapes(hypernet, siren)
            _check_dimensions(encoder, siren.in_features)
            places, anchors = getattr(encoder, "token_size", None), getattr(siren, "token_size", None)
            if None not in (places, anchors) and places != anchors:
                raise ValueError(f"expected an encoder with token_size {anchors} as the hypo-SIREN has, got {places}")
        self.encoder, self.hypernet, self.siren, self.adapter = encoder, hypernet, siren, adapter
        predicted: Any = {} if hypernet is None else hypernet.shapes
        trained = getattr(adapter, "trains_siren", True)
        for name, parameter in siren.named_parameters():
            parameter.requires_grad_(name not in predicted and trained)

    @property
    def has_prior(self) -> bool:
        """Whether the adapter takes a prior from data."""
        return hasattr(self.adapter, "set_prior")

    @property
    def lacks_prior(self) -> bool:
        """Whether its adapter takes a prior from data and has none yet."""
        return bool(getattr(self.adapter, "lacks_prior", False))

    def set_prior(
        self, signals: Iterable[Float[Tensor, "M *size C"]], ridge: float = 1e-6, shrinkage: float = 0.2
    ) -> None:
        """Start at the adapter's prior from data, such as `LastLayerSolve.set_prior`.

        A hypernetwork that has `start_at` predicts its mean at first, an encoder that has `start_at_zero` no tokens.

        Raises:
            UserError: If the model's adapter has no prior.
        """
        if not self.has_prior:
            none = "none" if self.adapter is None else type(self.adapter).__name__
            raise UserError(f"expected an adapter with a prior, such as LastLayerSolve, got {none}")
        _ask(self.adapter, "set_prior", self.siren, signals, ridge, shrinkage)
        _ask(self.hypernet, "start_at", self.siren.last())
        _ask(self.encoder, "start_at_zero")  # the prior's features have no tokens

    @torch.no_grad()
    def calibrate(self, cases: Iterable[HeldOut]) -> None:
        """Let the adapter choose its calibration, so that 90 % intervals hold 90 % of what is not known.

        Args:
            cases: Signals that the model has not learned from: their context, points (P, D), all values there
                (B, P, C), and which of these are unknown (B, P). A case for each kind of context.
        """
        _ask(self.adapter, "calibrate", self.predict, cases)

    def lr_factors(self) -> dict[Tensor, float]:
        """Parameters that learn at a multiple of the learning rate, as the adapter says."""
        return _ask(self.adapter, "lr_factors", self.siren) or {}

    def encode(self, context: Context) -> Tensor | None:
        """The latent z of each signal, (B, Z) or (B, T, Z); None without an encoder.

        In evaluation mode convolutions are in float32 on a GPU too; in training see the setting `training.tf32`.
        """
        if self.encoder is None:
            return None
        if self.training or context.y.device.type != "cuda" or torch.compiler.is_compiling():
            return self.encoder(context)
        with convolutions(tf32=False):
            return self.encoder(context)

    def decode(self, z: Tensor | None) -> Params:
        """The weights that the hypernetwork believes in, from z alone, in the field's precision; none without z."""
        if self.hypernet is None or z is None:
            return {}
        dtype = next(self.siren.parameters()).dtype
        return {name: p.to(dtype) for name, p in self.hypernet(z).items()}

    def predict(self, context: Context) -> Prediction:
        """Encode, decode, adapt: the one path of training, evaluation and use.

        In evaluation mode points that are unknown of every signal are left out first, see `Context.compact`: a tenth of
        the pixels of an image cost a ninth of the time. In training, all batches keep one shape and nothing waits.
        """
        if not self.training and not torch.compiler.is_compiling():
            context = context.compact()
        channels = context.y.shape[-1]
        if self.adapter is not None and isinstance(context.kind, Values) and channels != self.siren.out_features:
            # One channel would be fitted by all of the field's, without a word.
            raise UserError(f"expected values of {self.siren.out_features} channels, as the field has, got {channels}")
        z = self.encode(context)
        params = self.decode(z)
        if self.adapter is None:
            return Prediction(self.siren, params, z)
        return self.adapter(self.siren, z, params, context, None if self.hypernet is None else self.decode)

    def params(self, context: Context) -> Params:
        """The weights of each signal's field."""
        return self.predict(context).params

    def field(self, context: Context) -> BoundSiren:
        """The predicted fields of B signals, as one field (B, N, D) -> (B, N, C)."""
        return self.predict(context).field

    def forward(self, context: Context, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "B N C"]:
        """Values at x of each signal's predicted field."""
        return self.field(context)(x)


def _ask(part: nn.Module | None, hook: str, *arguments: Any) -> Any:
    """What a part of the model answers by one of its optional hooks; None where it has no such hook."""
    return getattr(part, hook)(*arguments) if hasattr(part, hook) else None


def _check_dimensions(encoder: Any, dimensions: int) -> None:
    """Refuse coordinates that an encoder, or its class, cannot read; one that does not say reads any."""
    reads = getattr(encoder, "dimensions", None)
    if reads not in (None, dimensions):
        name = getattr(encoder, "__name__", type(encoder).__name__)
        raise UserError(f"expected signals over {reads} coordinate dimensions, which {name} reads, got {dimensions}")


def _check_latent(source: nn.Module | None, hypernet: nn.Module) -> None:
    """Refuse a latent that the hypernetwork cannot take; parts from outside need not say theirs.

    A part that says its `latent_features` and not its `tokens` means one latent for each signal.
    """
    gives, takes = (
        {what: getattr(part, what, None) for what in ("latent_features", "tokens")} for part in (source, hypernet)
    )
    if None not in (gives["latent_features"], takes["latent_features"]) and gives != takes:
        raise ValueError(f"expected a latent with {takes} as the hypernetwork takes, got {gives}")


def _check_shapes(hypernet: nn.Module, siren: Siren) -> None:
    """Refuse a hypernetwork that predicts what the hypo-SIREN does not have."""
    shapes = siren.shapes
    for name, shape in hypernet.shapes.items():  # type: ignore[operator, union-attr]
        if tuple(shape) != shapes.get(name):
            raise ValueError(
                f"expected {name} of shape {shapes.get(name)}, but the hypernetwork predicts {tuple(shape)}"
            )


def build(
    siren: Mapping[str, Any],
    encoder: Mapping[str, Any],
    hypernet: Mapping[str, Any],
    channels: int,
    in_features: int = 2,
    out_features: int | None = None,
    adapter: Mapping[str, Any] | None = None,
) -> HyperSiren:
    """A HyperSiren from plain keyword arguments (and a `kind` each): for images, or for other coordinates and values.

    The context has `channels` values at coordinates of `in_features` dimensions; the field has `out_features` values,
    by default as many. An encoder of kind "none" leaves out the hypernetwork too. Tokens, from an encoder or found by
    gradient steps, shift the phases of a `LocalSiren`.

    `layers` of the hypernetwork is the number of last layers of the hypo-SIREN that it predicts; None for all.

    Raises:
        UserError: If the encoder cannot read coordinates of `in_features` dimensions, or they have no tokens.

    Example:
        >>> model = build({"hidden_features": 8}, {"kind": "set"}, {"kind": "full", "hidden_features": 8}, channels=1)
        >>> model.siren.out_features
        1
        >>> shapes = build({}, {"kind": "set"}, {"kind": "full"}, channels=3, in_features=3, out_features=1)
        >>> shapes.siren.in_features, shapes.siren.out_features
        (3, 1)
        >>> build({"hidden_features": (8, 32)}, {"kind": "none"}, {}, channels=3, adapter={"kind": "solve"}).encoder
    """
    outputs = channels if out_features is None else out_features
    encoder, hypernet, adapter = dict(encoder), dict(hypernet), dict(adapter or {"kind": "none"})
    kind, adapting = encoder.pop("kind"), adapter.pop("kind")
    _check_dimensions(ENCODERS.get(kind), in_features)
    tokens: dict[str, Any] = {}
    own_tokens: dict[str, Any] = {
        name: adapter.pop(name) for name in ("token_size", "token_features") if name in adapter
    }
    if kind == "tokens":
        tokens = {name: encoder[name] for name in ("token_size", "token_features")} | {"radius": encoder.pop("radius")}
    elif kind == "none" and adapting == "gradient":
        tokens = own_tokens
    field = LocalSiren(in_features, outputs, **siren, **tokens) if tokens else Siren(in_features, outputs, **siren)
    made: nn.Module | None = None
    predicting: nn.Module | None = TokenHypernet(field.shapes) if tokens else None
    if kind != "none":
        says = {"in_features": in_features + channels, "channels": channels}
        takes = signature(ENCODERS[kind]).parameters
        made = ENCODERS[kind](**encoder, **{name: number for name, number in says.items() if name in takes})
    if predicting is None and made is not None:
        names = list(field.shapes)
        if (layers := hypernet.pop("layers", None)) is not None:
            names = names[-2 * layers :]  # a weight and a bias each
        shapes = {name: field.shapes[name] for name in names}
        latent: Any = made.latent_features
        predicting = HYPERNETS[hypernet.pop("kind")](shapes, latent, **hypernet)
    adapts = None if adapting == "none" else ADAPTERS[adapting].for_model(field, predicting, **adapter)
    return HyperSiren(made, predicting, field, adapts)
