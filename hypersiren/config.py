"""Configuration: what a YAML file or a flag may say, with its defaults, checked before anything runs.

Pure description: pydantic models and their reading, no torch. The defaults are the `faces` experiment, the same that
`configs/completion/faces.yaml` spells out. A key that does not exist or a value that does not fit is a `ConfigError`
of one line that says what was expected and what came.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator
from pydantic.fields import FieldInfo

from hypersiren.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be used; the message is one line for a person."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Data(_Model):
    """The set of images."""

    kind: str = "faces"
    """faces, photos, folder, celeba, or a set of torchvision's by its name, such as FashionMNIST or CIFAR10."""
    root: Path | None = None
    """Folder of the images (folder, celeba, torchvision's sets)."""
    size: PositiveInt | tuple[PositiveInt, PositiveInt] = 32
    """Pixels of an image: one number for a square, or [height, width]."""
    gray: bool = True
    """One channel instead of three."""
    crop: Literal["center", "none"] = "center"
    """center: the largest central rectangle of the right shape, resized; none: images must have the size already."""
    crops: PositiveInt | None = None
    """Random crops to cut for training (photos); null: 10,000."""
    download: bool = False
    """Let torchvision download its set."""
    flip: bool = True
    """Mirror half of the training images."""
    shift: Annotated[int, Field(ge=0)] = 2
    """Shift training images by up to so many pixels."""


class ContextSampling(_Model):
    """Which pixels of a training image the encoder sees."""

    sampling: Literal["uniform", "log_uniform", "bernoulli"] = "log_uniform"
    """Law of the number of pixels: exact numbers, uniform or log-uniform, or each pixel by a coin (paper's CNN)."""
    fewest: PositiveInt = 10
    """Least number of context pixels."""
    most: PositiveInt = 1000
    """Largest number of context pixels; no more than the image has are used."""

    @model_validator(mode="after")
    def _ordered(self) -> "ContextSampling":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class HypoSiren(_Model):
    """The hypo-SIREN, the network whose weights are predicted."""

    hidden_features: PositiveInt = 256
    """Width."""
    hidden_layers: Annotated[int, Field(ge=0)] = 2
    """Sine layers after the first; the paper's has 3."""
    first_omega: PositiveFloat = 10.0
    """Frequency factor of the first layer; the paper's is 30."""
    hidden_omega: PositiveFloat = 8.0
    """Frequency factor of the hidden layers; the paper's is 30."""


class SetEncoder(_Model):
    """The paper's set encoder: an MLP on each (coordinate, value), then the mean."""

    kind: Literal["set"] = "set"
    """set"""
    latent_features: PositiveInt = 256
    """Features of the latent z."""
    hidden_features: PositiveInt = 256
    """Width of the MLP."""
    hidden_layers: Annotated[int, Field(ge=0)] = 2
    """Layers between the first and the last."""
    activation: Literal["sine", "relu"] = "sine"
    """Activation after every layer."""
    omega: PositiveFloat = 30.0
    """Frequency factor of the sines."""


class ConvEncoder(_Model):
    """Our strided CNN on the context filled by normalised convolution, beside a regression on learned functions."""

    kind: Literal["conv"] = "conv"
    """conv"""
    latent_features: PositiveInt = 256
    """Features of the latent z."""
    widths: Annotated[tuple[Annotated[int, Field(gt=0, multiple_of=8)], ...], Field(min_length=1)] = (32, 64, 128)
    """Features at half, quarter ... resolution."""
    pool: PositiveInt = 4
    """Cells along each axis of the last feature map."""
    sigmas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.7, 1.5, 3.0, 6.0, 12.0)
    """Scales of the normalised convolution, in pixels."""
    basis: Annotated[int, Field(ge=0)] = 128
    """Learned basis functions that the context is regressed on in closed form; 0: none."""


class PaperConvEncoder(_Model):
    """The paper's CNN at full resolution, or its partial-convolution variant."""

    kind: Literal["paper_conv"] = "paper_conv"
    """paper_conv"""
    latent_features: Annotated[int, Field(ge=2)] = 256
    """Features of the latent z and of the network."""
    size: tuple[PositiveInt, PositiveInt] = (32, 32)
    """Size of the learned map of position weights."""
    mask_channel: bool = True
    """Give the mask as an input channel; the paper's code does not."""
    partial: bool = False
    """Partial convolutions."""


class FullHypernet(_Model):
    """The hypernetwork: predicts weights of the hypo-SIREN from z."""

    kind: Literal["full"] = "full"
    """full"""
    layers: PositiveInt | None = 1
    """Predict so many last layers, the others being shared by all images and trained; null: all, as in the paper."""
    hidden_features: PositiveInt = 256
    """Width of its MLPs."""
    hidden_layers: Annotated[int, Field(ge=0)] = 0
    """Hidden layers of its MLPs; the paper has 2."""
    trunk: Literal["separate", "shared"] = "shared"
    """One MLP for each tensor of the hypo-SIREN (the paper's), or hidden layers shared by all."""


class Loss(_Model):
    """Weights of the loss terms beside the mean squared error (paper, section 4.4)."""

    latent: NotNegative = 0.0
    """Times mean(z^2); the paper's code has 0.1."""
    weights: NotNegative = 0.0
    """Times mean(theta^2) over the predicted weights; the paper's code has 100."""


class Training(_Model):
    """The optimisation."""

    steps: PositiveInt = 2200
    """Optimiser updates."""
    batch_size: PositiveInt = 32
    """Images a step (before accumulation)."""
    optimizer: Literal["adam", "muon"] = "muon"
    """Adam for all weights, or Muon for the matrices and Adam for the others."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 200
    """Steps over which the learning rate rises from 0."""
    decay: Literal["constant", "cosine"] = "cosine"
    """Course of the learning rate after the warm-up; cosine ends at 0."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; null: not clipped."""
    ema: Share = 0.998
    """Decay of the averaged weights that are validated and saved; 0: the weights themselves."""
    accumulate: PositiveInt = 1
    """Batches whose gradients make one step."""
    target_points: PositiveInt | None = None
    """Random target pixels for each image; null: all."""
    autocast: bool = False
    """bfloat16 in encoder and hypernetwork; the field stays in float32."""
    compile: bool = False
    """torch.compile the forward pass."""
    log_every: PositiveInt = 50
    """Steps between TensorBoard scalars."""
    validate_every: PositiveInt = 500
    """Steps between validations, pictures and checkpoints."""


class Settings(_Model):
    """Everything that `hypersiren train` can be told."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes initial weights, batches and contexts."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    data: Data = Data()
    context: ContextSampling = ContextSampling()
    siren: HypoSiren = HypoSiren()
    encoder: Annotated[SetEncoder | ConvEncoder | PaperConvEncoder, Field(discriminator="kind")] = ConvEncoder()
    hypernet: FullHypernet = FullHypernet()
    loss: Loss = Loss()
    training: Training = Training()

    @model_validator(mode="after")
    def _fitting_layers(self) -> "Settings":
        layers = self.siren.hidden_layers + 2
        if self.hypernet.layers is not None and self.hypernet.layers > layers:
            raise ValueError(f"hypernet.layers ({self.hypernet.layers}) must not exceed the hypo-SIREN's {layers}")
        return self


def load_settings(path: str | Path | None = None, flags: Sequence[str] = ()) -> Settings:
    """Settings from a YAML file, if any, overridden by flags.

    Args:
        path: YAML file; None for the defaults.
        flags: Command-line words such as `--training.lr 1e-3`, `--training.lr=1e-3` or `--data.gray` (true). Values are
            read as YAML. A new `kind` drops the file's other keys of that section.

    Raises:
        ConfigError: On a file that cannot be read, an unknown key, or a value that does not fit.

    Example:
        >>> load_settings(flags=["--training.lr", "2e-3", "--encoder.kind=set"]).encoder.kind
        'set'
        >>> load_settings(flags=["--trainig.lr", "2e-3"])
        Traceback (most recent call last):
        ...
        hypersiren.config.ConfigError: --trainig.lr: unknown key "trainig"; did you mean "training"?
    """
    data = _read_yaml(Path(path)) if path is not None else {}
    if path is not None:
        _check_keys(data, str(path))
    # The kind first, whatever the order of the flags: it decides which other keys there are.
    for key, value in sorted(_parse_flags(flags), key=lambda flag: flag[0] != "encoder.kind"):
        nested: Any = value
        for name in reversed(key.split(".")):
            nested = {name: nested}
        _check_keys(nested, f"--{key}", data)
        _override(data, nested)
    _check_keys(data, str(path or "flags"))
    try:
        return Settings.model_validate(_with_kinds(data))
    except ValidationError as error:
        first = error.errors()[0]
        # Pydantic puts the alternatives of a union into the location; a reader knows no such keys.
        known = {*Settings.model_fields, *(key for _, key in _all_keys())}
        where = ".".join(str(part) for part in first["loc"] if part in known or isinstance(part, int))
        message = first["msg"].removeprefix("Value error, ")
        got = "" if isinstance(first["input"], Mapping) else f", got {first['input']!r}"
        raise ConfigError(f"{where}: {message[0].lower()}{message[1:]}{got}") from None


def dump_settings(settings: Settings) -> str:
    """The settings as YAML, complete and ready to be read back."""
    return to_yaml(settings.model_dump(mode="json"))


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None)


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ between two nested mappings.

    Example:
        >>> differing_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
        {'a.c': (2, 3)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*a, *(k for k in b if k not in a)]:
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found |= {f"{key}.{inner}": pair for inner, pair in differing_keys(x, y).items()}
        elif x != y:
            found[key] = (x, y)
    return found


def describe_settings() -> str:
    """One line for each key: flag, default, choices and meaning; the text of `hypersiren settings`."""
    lines: list[str] = []
    for name, field in Settings.model_fields.items():
        models = _models(field)
        if not models:
            lines.append(_describe(name, field))
        for model in models:
            doc = (model.__doc__ or "").strip()
            kind = model.model_fields.get("kind")
            tag = f" ({name}.kind: {kind.default})" if kind and len(models) > 1 else ""
            lines += ["", f"{name}{tag}: {doc}"]
            lines += [
                _describe(f"{name}.{key}", inner)
                for key, inner in model.model_fields.items()
                if not (key == "kind" and get_origin(inner.annotation) is Literal)
            ]
    return "\n".join(lines)


def _describe(key: str, field: FieldInfo) -> str:
    default = yaml.safe_dump(field.get_default() if not isinstance(field.default, tuple) else list(field.default),
                             default_flow_style=True).removesuffix("\n").removesuffix("...").strip()  # fmt: skip
    choices = " | ".join(map(str, get_args(field.annotation))) + ". " if get_origin(field.annotation) is Literal else ""
    return f"  --{key} [{default}]  {choices}{field.description}"


def _models(annotation: Any) -> list[type[_Model]]:
    """The settings models that a field may hold: none for a plain value, several for a union."""
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    options = get_args(annotation) or (annotation,)
    return [option for option in options if isinstance(option, type) and issubclass(option, _Model)]


DEFAULT_KIND = Settings.model_fields["encoder"].default.kind
ENCODER_KINDS = {m.model_fields["kind"].default: m for m in _models(Settings.model_fields["encoder"])}


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1, cutoff=0.4)
        raise ConfigError(f"{path}: no such file" + _did_you_mean(near)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist, for one
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(data).__name__}")
    return data


def _parse_flags(flags: Sequence[str]) -> Iterator[tuple[str, Any]]:
    words = list(flags)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise ConfigError(f'unexpected argument "{word}"; settings are given as --key value')
        key, equals, text = word[2:].partition("=")
        if not equals:
            text = words.pop(0) if words and not words[0].startswith("--") else "true"
        try:
            yield key, yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"--{key}: cannot read the value {text!r}") from None


def _kind(name: str, section: Mapping[str, Any], known: Mapping[str, Any]) -> type[_Model] | None:
    """Which settings model a section of the configuration is."""
    models = _models(Settings.model_fields[name])
    if len(models) < 2:
        return models[0] if models else None
    kind = str(section.get("kind", known.get("kind", Settings.model_fields[name].default.kind)))
    if kind not in ENCODER_KINDS:
        near = difflib.get_close_matches(kind, ENCODER_KINDS, n=1, cutoff=0.4)
        raise ConfigError(f'{name}.kind: expected one of {", ".join(ENCODER_KINDS)}, got "{kind}"{_did_you_mean(near)}')
    return ENCODER_KINDS[kind]


def _check_keys(data: Mapping[Any, Any], where: str, base: Mapping[str, Any] | None = None) -> None:
    for name, section in data.items():
        if name not in Settings.model_fields:
            everywhere = [*Settings.model_fields, *(f"{n}.{k}" for n, k in _all_keys())]
            near = (
                _near(str(name), list(Settings.model_fields)) or [k for k in everywhere if k.endswith(f".{name}")][:1]
            )
            raise ConfigError(f'{where}: unknown key "{name}"' + _did_you_mean(near))
        known = (base or {}).get(name) or {}
        model = _kind(name, section if isinstance(section, Mapping) else {}, known)
        if model is None:
            continue
        if not isinstance(section, Mapping):
            raise ConfigError(f"{where}: {name} expects keys ({', '.join(model.model_fields)}), got {section!r}")
        for key in section:
            if key not in model.model_fields:
                near = [f"{name}.{k}" for k in _near(str(key), list(model.model_fields))]
                near = near or [f"{n}.{k}" for n, k in _all_keys() if k == key and n != name][:1]
                has = f" for {name}.kind {model.model_fields['kind'].default}" if name == "encoder" else ""
                raise ConfigError(f'{where}: unknown key "{name}.{key}"{has}{_did_you_mean(near)}')


def _all_keys() -> Iterator[tuple[str, str]]:
    for name, field in Settings.model_fields.items():
        for model in _models(field):
            yield from ((name, key) for key in model.model_fields)


def _near(word: str, words: list[str]) -> list[str]:
    return difflib.get_close_matches(word, words, n=1)


def _did_you_mean(near: Sequence[str]) -> str:
    return f'; did you mean "{near[0]}"?' if near else ""


def _override(data: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if not isinstance(value, Mapping):
            data[key] = value
            continue
        section = data.setdefault(key, {})
        if (
            key == "encoder"
            and value.get("kind", DEFAULT_KIND) != section.get("kind", DEFAULT_KIND)
            and "kind" in value
        ):
            section.clear()
        section.update(value)


def _with_kinds(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "encoder": {"kind": DEFAULT_KIND, **data.get("encoder", {})}}
