"""A field as a graph that runs without hypersiren: ONNX, and a program of torch.export; any number of points."""

import contextlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.siren import BoundSiren
from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.signals.files import atomic_write, one_line, unlogged

Field = nn.Module | BoundSiren


class WindowsGraph(nn.Module):
    """A field of windows without a shape that depends on the points: all 2^D windows of each point, most of weight 0.

    It holds 2^D times as many features as a Siren; those who run it choose how many points they give at once.

    Args:
        field: The field.

    Example:
        >>> from hypersiren import Siren
        >>> field = WindowedSiren(Siren(2, 3, 8), (3, 2))
        >>> x = torch.rand(5, 2)
        >>> torch.allclose(WindowsGraph(field)(x), field(x), atol=1e-6)
        True
    """

    def __init__(self, field: WindowedSiren):
        super().__init__()
        self.field, self.in_features = field, field.in_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values (N, C) at (N, D)."""
        index, place, factors = self.field.windows.locate(x.double())  # as far apart as the samples of a long sound
        weight = torch.stack([axis[0] for axis in factors]).prod(0).to(x.dtype)
        y = self._values(index.flatten(), place.flatten(0, 1).to(x.dtype))
        return (weight.unsqueeze(-1) * y.unflatten(0, (-1, weight.shape[1]))).sum(1)

    def _values(self, window: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        field = self.field
        if isinstance(field, CompactWindows):
            phi, parts = field.features(place), field.coefficients[window].split(field.counts, -1)
            z = torch.stack(
                [(phi[:, :count] * part).sum(-1) for count, part in zip(field.counts, parts, strict=True)], -1
            )
            return z @ field.mix.mT + field.offset
        own = field.leaves(dict(field.named_parameters()), window, window)
        return field.template(place.unsqueeze(1), own).squeeze(1)


def write_onnx(field: Field, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a field as ONNX: input `x` (N, D) float32, output `y` (N, C), N any number.

    Args:
        field: The field.
        path: The file.
        about: What its values are, such as the `rate` of a sound and the `scale` that they are times; in the file's
            metadata, each as JSON.

    Raises:
        UserError: If the extra `onnx` is not installed, or the field has an operation that ONNX lacks.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - the exporter needs it
    except ImportError:
        raise UserError("--onnx needs the extra onnx: pip install onnx onnxscript onnxruntime") from None
    module, points = _prepared(field)
    # The lowest onnxscript prints which rules it applied.
    with warnings.catch_warnings(), unlogged("torch.onnx"), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (points,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                input_names=["x"],
                output_names=["y"],
                verbose=False,
            )
        except Exception as error:  # the exporter has many
            raise UserError(f"{type(field).__name__} cannot be exported to ONNX ({one_line(error)})") from None
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata(about))
    with atomic_write(path) as file:
        file.write(onnx.ModelProto.SerializeToString(model))


def metadata(about: Mapping[str, Any] | None) -> dict[str, str]:
    """What a field's values are, in words for a file: each as JSON.

    Example:
        >>> metadata({"rate": 8000, "scale": 0.5})
        {'rate': '8000', 'scale': '0.5', 'grid': '"sample i of n along an axis is at x = (2 i + 1) / n - 1"'}
    """
    known = {**(about or {}), "grid": "sample i of n along an axis is at x = (2 i + 1) / n - 1"}
    return {name: json.dumps(value) for name, value in known.items()}


def write_torch(field: Field, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a field as a program of torch.export, (N, D) float32 to (N, C), N any number; `torch.export.load` reads it.

    `about` as of `write_onnx`; it is the extra file `about.json`.

    Example:
        >>> import tempfile
        >>> from hypersiren import Siren
        >>> siren = Siren(2, 3, 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_torch(siren, Path(folder) / "field.pt2")
        ...     program = torch.export.load(f"{folder}/field.pt2")
        >>> x = torch.rand(5, 2)
        >>> torch.allclose(program.module()(x), siren(x))
        True
    """
    module, points = _prepared(field)
    program = torch.export.export(module, (points,), dynamic_shapes=({0: torch.export.Dim("N")},))
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"about.json": json.dumps(metadata(about))})
    with atomic_write(path) as file:
        file.write(content.getvalue())


def _prepared(field: Field) -> tuple[nn.Module, torch.Tensor]:
    """The field as a module of its own on the CPU, and points to trace it with."""
    module: Any = (field.module() if isinstance(field, BoundSiren) else field).cpu().eval().requires_grad_(False)
    if isinstance(module, WindowedSiren):
        module = WindowsGraph(module)
    return module, torch.zeros(7, module.in_features)
