"""A field as one web page: its weights and the code that evaluates it, for any browser, without network.

The parts of the page lie in `page/`, plain HTML, CSS and JavaScript. Weights go into it as base64 of little-endian
float32 with omega multiplied in; a tensor that several fields share goes in once. What the many windows of a large
field have for themselves goes in as float16.
"""

import base64
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypersiren.completion.images.photos import read_photo
from hypersiren.completion.prediction import prediction
from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.render import kind_of
from hypersiren.fields.siren import BoundSiren, Siren
from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.hypernets.model import HyperSiren

LOG = logging.getLogger(__name__)

PARTS = Path(__file__).parent / "page"

KNOWN = (10, 30, 100, 300, 1000)
"""Known pixels of a completion that the page's slider has, beside all of them."""

KINDS = ("image", "sound", "video", "volume", "shape")
"""Kinds of fields that a page can show, see `hypersiren.fields.render.kind_of`."""


MIXTURE = ("mix", "offset")
"""Of `CompactWindows`."""

LARGEST = 40_000_000
"""Bytes of a page; those of more are written with half the digits, or refused."""


def fit_page(field: Any, about: Mapping[str, Any], title: str) -> str:
    """The page of a fitted field.

    Args:
        field: The field.
        about: What its run says of rendering it; see `hypersiren.training.checkpoints.playback`.
        title: The page's title.

    Raises:
        UserError: If it is neither a SIREN nor one of windows, of a kind that no page shows, or too large for a page.

    Example:
        >>> text = fit_page(Siren(2, 3, 8), {"kind": "image", "samples": [20, 30]}, "a cat")
        >>> text.startswith("<!DOCTYPE html>"), "<title>a cat</title>" in text
        (True, True)
    """
    kind = kind_of(about)
    if kind not in KINDS:
        raise UserError(
            f"--html shows fields of the kinds {', '.join(KINDS)}, and completions of pictures; "
            f"got one of {about.get('task') or 'a kind that is not known'}"
        )
    data: dict[str, Any] = {"kind": kind, "samples": list(about["samples"]), "axes": [0, 1], "names": ["row", "column"]}
    if kind == "sound":
        data |= {"axes": [0], "names": ["time"], "rate": about["rate"], "scale": about["scale"]}
    elif kind == "video":
        data |= {"samples": data["samples"][1:], "axes": [1, 2], "names": ["time", "row", "column"]}
    elif kind == "volume":
        data |= {"kind": "video", "samples": data["samples"][1:], "axes": [1, 2], "names": ["slice", "row", "column"]}
    elif kind == "shape":
        data |= {"samples": [2, 2], "names": ["x", "y", "z"]}
    return _page(title, data, [field], about if "bands" in about else None)


def completion_page(model: HyperSiren, picture: Path, size: tuple[int, int], title: str, *, samples: int = 4) -> str:
    """The page of a picture that a hypernetwork completes from 10, 30, 100 ... and all of its pixels.

    Args:
        model: The hypernetwork.
        picture: File of the picture.
        size: (H, W) of the model's pixels.
        title: The page's title.
        samples: Samples of each completion, where the model knows what is still open.

    Raises:
        UserError: If the picture cannot be read, or the predicted fields are not SIRENs.
    """
    channels, total = model.siren.out_features, size[0] * size[1]
    device = next(model.parameters()).device
    fields: list[BoundSiren] = []
    contexts = []
    for known in [*(n for n in KNOWN if n < total), total]:
        photo = read_photo(picture, size, channels, context=known, device=device)
        found = prediction(model, photo.context)
        made = [found.field.signal(0)]
        if found.posterior is not None and samples:
            drawn = model.siren.bind(found.posterior.sample(samples, torch.Generator(device).manual_seed(0)))
            made += [drawn.signal(i) for i in range(samples)]
        cells = photo.mask.flatten().nonzero().flatten().tolist()
        contexts.append({"known": known, "cells": cells, "fields": list(range(len(fields), len(fields) + len(made)))})
        fields += made
    pixels = ((photo.values + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    data = {
        "kind": "image",
        "samples": list(size),
        "axes": [0, 1],
        "names": ["row", "column"],
        "contexts": contexts,
        "photo": base64.b64encode(pixels.tobytes()).decode(),
    }
    return _page(title, data, fields)


def _page(title: str, data: dict[str, Any], fields: Sequence[Any], colours: Mapping[str, Any] | None = None) -> str:
    """The page of fields; `colours` says which bands of a field of many are shown, as its playback does.

    Raises:
        UserError: If they are no SIRENs, have other channels, or are too large.
    """
    siren = fields[0].siren if isinstance(fields[0], BoundSiren) else fields[0]
    if type(siren) not in (Siren, WindowedSiren, CompactWindows):
        raise UserError(f"--html shows SIRENs, got a {type(siren).__name__}; --onnx and --torch take other fields")
    outputs = siren.out_features if colours is None else 3
    if data["kind"] != "sound" and data["kind"] != "shape" and outputs not in (1, 3):
        raise UserError(f"--html shows pictures of 1 or 3 channels, got {outputs}")
    data |= {"inputs": siren.in_features, "outputs": outputs, **_weights(fields, colours)}
    # Within a script element no text may look like its end.
    parts = {"title": escape(title), "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")}
    parts |= {path.name: path.read_text("utf-8").rstrip() for path in PARTS.iterdir() if path.name != "field.html"}
    template = (PARTS / "field.html").read_text("utf-8")
    return re.sub(r"\{\{([\w.]+)\}\}", lambda match: parts[match[1]], template)


def _weights(fields: Sequence[Any], colours: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The tensors of fields, each once, and which of them are the layers of each field; of many bands only three."""

    def shown(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of an output's weights, (..., C, F) and (..., C), that are shown, stretched from black to white."""
        if colours is None:
            return weight, bias
        low, high = torch.tensor(colours["stretch"]).to(bias).T
        gain = 1 / (high - low)
        return gain[:, None] * weight[..., colours["bands"], :], gain * (bias[..., colours["bands"]] + 1 - 2 * low) - 1

    tensors: list[str] = []
    index: dict[bytes, int] = {}
    halves: list[int] = []

    def keep(tensor: Tensor, half: bool = False) -> int:
        raw = tensor.detach().cpu().numpy().astype(np.dtype("<f2" if half else "<f4")).tobytes()
        key = hashlib.blake2b(raw, digest_size=16).digest()
        if key not in index:
            index[key] = len(tensors)
            tensors.append(base64.b64encode(raw).decode())
            if half:
                halves.append(index[key])
        return index[key]

    def entry(field: Any) -> dict[str, Any]:
        bound = isinstance(field, BoundSiren)
        siren, params = (field.siren, field.params) if bound else (field, {})
        if not isinstance(siren, WindowedSiren):
            pairs = list(siren.scaled_weights(params))
            pairs[-1] = shown(*pairs[-1])
            return {"layers": [[keep(weight), keep(bias)] for weight, bias in pairs]}
        leaves = {**dict(siren.named_parameters()), **params}
        half = _in_half(sum(leaves[name].numel() for name in siren.owned))
        template = siren.template
        layers = list(template._linears())
        own = len(layers) - 1 if siren.own == "last" else 0
        omegas = [*template._omegas(), 1.0]
        grid = siren.windows
        windows: dict[str, Any] = {
            "own": own, "count": grid.count, "width": grid.width, "step": grid.step, "lap": grid.lap, "tensors": {}
        }  # fmt: skip
        if isinstance(siren, CompactWindows):
            windows["counts"] = siren.counts
            leaves["mix"], leaves["offset"] = shown(leaves["mix"], leaves["offset"])
            windows["tensors"] = {n: keep(leaves[n], half and n == "coefficients") for n in ("coefficients", *MIXTURE)}
            layers = layers[:-1]
        else:
            last = [f"layers.{len(layers) - 1}.{kind}" for kind in ("weight", "bias")]
            leaves |= dict(zip(last, shown(*(leaves[name] for name in last)), strict=True))
        pairs = [
            [keep(omegas[i] * leaves[f"layers.{i}.{kind}"], half and i >= own) for kind in ("weight", "bias")]
            for i in range(len(layers))
        ]
        return {"layers": pairs, "windows": windows}

    found = [entry(field) for field in fields]
    return {"fields": found, "tensors": tensors, "half": halves}


def _in_half(numbers: int) -> bool:
    """Whether so many numbers go into a page as float16.

    Raises:
        UserError: If they are too many even so.
    """
    full, half = (numbers * size * 4 // 3 for size in (4, 2))
    if half > LARGEST:
        raise UserError(
            f"--html: the page of {numbers:,} numbers would have {half / 1e6:.0f} MB, expected at most "
            f"{LARGEST / 1e6:.0f}; fit with fewer --network.numbers"
        )
    if full > LARGEST:
        LOG.info("the page's %s numbers are written as float16: %.0f MB in place of %.0f", f"{numbers:,}", half / 1e6,
                 full / 1e6)  # fmt: skip
    return full > LARGEST
