"""A field as one web page: its weights and the code that evaluates it, for any browser, without network.

The parts of the page lie in `page/`, plain HTML, CSS and JavaScript. Weights go into it as base64 of little-endian
float32 with omega multiplied in; a tensor that several fields share goes in once.
"""

import base64
import hashlib
import json
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
from hypersiren.fields.render import kind_of
from hypersiren.fields.siren import BoundSiren, Siren
from hypersiren.hypernets.model import HyperSiren

PARTS = Path(__file__).parent / "page"

KNOWN = (10, 30, 100, 300, 1000)
"""Known pixels of a completion that the page's slider has, beside all of them."""

KINDS = ("image", "sound", "video", "shape")
"""Kinds of fields that a page can show, see `hypersiren.fields.render.kind_of`."""


def fit_page(field: Any, about: Mapping[str, Any], title: str) -> str:
    """The page of a fitted field.

    Args:
        field: The field.
        about: What its run says of rendering it; see `hypersiren.training.checkpoints.playback`.
        title: The page's title.

    Raises:
        UserError: If it is not a SIREN, or of a kind that no page shows.

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
    elif kind == "shape":
        data |= {"samples": [2, 2], "names": ["x", "y", "z"]}
    return _page(title, data, [field])


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


def _page(title: str, data: dict[str, Any], fields: Sequence[Any]) -> str:
    siren = fields[0].siren if isinstance(fields[0], BoundSiren) else fields[0]
    if type(siren) is not Siren:
        raise UserError(f"--html shows SIRENs, got a {type(siren).__name__}; --onnx and --torch take other fields")
    if data["kind"] != "sound" and data["kind"] != "shape" and siren.out_features not in (1, 3):
        raise UserError(f"--html shows pictures of 1 or 3 channels, got {siren.out_features}")
    data |= {"inputs": siren.in_features, "outputs": siren.out_features, **_weights(fields)}
    # Within a script element no text may look like its end.
    parts = {"title": escape(title), "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")}
    parts |= {path.name: path.read_text("utf-8").rstrip() for path in PARTS.iterdir() if path.name != "field.html"}
    template = (PARTS / "field.html").read_text("utf-8")
    return re.sub(r"\{\{([\w.]+)\}\}", lambda match: parts[match[1]], template)


def _weights(fields: Sequence[Any]) -> dict[str, Any]:
    """The tensors of fields, each once, and which of them are the layers of each field."""
    tensors: list[str] = []
    index: dict[bytes, int] = {}

    def keep(tensor: Tensor) -> int:
        raw = tensor.detach().cpu().numpy().astype(np.dtype("<f4")).tobytes()
        key = hashlib.blake2b(raw, digest_size=16).digest()
        if key not in index:
            index[key] = len(tensors)
            tensors.append(base64.b64encode(raw).decode())
        return index[key]

    def layers(field: Any) -> list[list[int]]:
        bound = isinstance(field, BoundSiren)
        scaled = field.siren.scaled_weights(field.params) if bound else field.scaled_weights()
        return [[keep(weight), keep(bias)] for weight, bias in scaled]

    return {"fields": [{"layers": layers(field)} for field in fields], "tensors": tensors}
