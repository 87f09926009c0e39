"""Checkpoints: one file of tensors and plain types, written beside and renamed, read with `weights_only=True`."""

import errno
import hashlib
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from hypersiren.errors import UserError, clear_line
from hypersiren.fields.baselines import baseline
from hypersiren.fields.compact_windows import CompactWindows  # noqa: F401 - so that `restore` knows it
from hypersiren.fields.render import kind_of
from hypersiren.fields.savable import describe, rebuild
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.inpainter import Inpainter  # noqa: F401 - so that `restore` knows it
from hypersiren.hypernets.model import build
from hypersiren.signals.files import atomic_write, check_library

RELEASED = Path(__file__).parents[1] / "released"
"""Models that come with the package, one .safetensors file each; README.md there describes them."""

EXPECTED = "a run folder of `hypersiren fit` or `hypersiren train`, or a checkpoint in it (best.pt, last.pt)"


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read; the message is one line for a person."""


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that the file is always either the old one or the new one, whole.

    Raises:
        CheckpointError: On a full disk or a folder that cannot be written, or if `read` would refuse what it holds; an
            older file stays as it was.
    """
    check_plain(content)
    try:
        with atomic_write(path) as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        full = getattr(error, "errno", None) == errno.ENOSPC or "file write failed" in str(error)
        reason = "the disk is full" if full else getattr(error, "strerror", None) or _first_line(error)
        raise CheckpointError(f"{path}: cannot be written ({reason}); what was saved before is untouched") from None


def check_plain(value: Any, name: str = "") -> None:
    """Check that what a checkpoint is to hold can be read again, before hours are spent on it.

    Args:
        value: The content, or a part of it.
        name: Of the part, for the error.

    Raises:
        CheckpointError: If it holds other than tensors and plain values.

    Example:
        >>> check_plain({"record": {"fps": 25.0}, "ema": {"layers.0.bias": torch.zeros(3)}})
        >>> check_plain({"record": {"playback": {"by": [range(3)]}}})
        Traceback (most recent call last):
        hypersiren.training.checkpoints.CheckpointError: record.playback.by.0: a checkpoint holds tensors and plain
        values, got range(0, 3) (range)
    """
    kind = type(value)
    if kind in (dict, OrderedDict):
        for key, part in value.items():
            check_plain(key, f"{name}: its key {key!r}")
            check_plain(part, f"{name}.{key}".lstrip("."))
    elif kind in (list, tuple):
        for i, part in enumerate(value):
            check_plain(part, f"{name}.{i}")
    elif kind not in (bool, int, float, str, type(None), torch.Tensor, nn.Parameter):
        data = io.BytesIO()
        try:
            torch.save(value, data)
            data.seek(0)
            torch.load(data, weights_only=True)
        except Exception:  # pickle has many, and so have classes of others
            text = clear_line(f"{value!r} ({kind.__name__})", 100)
            raise CheckpointError(f"{name}: a checkpoint holds tensors and plain values, got {text}") from None


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, or of a file of `save` or `release`, on the CPU.

    Raises:
        CheckpointError: If the file is missing or is not a checkpoint.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:  # torch would advise to switch the check off
        raise CheckpointError(
            f"{path}: not a readable checkpoint (expected tensors and plain values, got objects that could run code)"
        ) from None
    except Exception as error:  # zip and storage errors, all of them meaning the same to a person
        check_library(error, path)
        raise CheckpointError(f"{path}: not a readable checkpoint ({_first_line(error)})") from None
    keys = {"record": dict, "ema": dict, "metrics": dict, "step": int, "seconds": float}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in keys.items()):
        raise CheckpointError(f"{path}: expected a checkpoint of hypersiren, got another file of tensors")
    return content


def check_zip(path: Path) -> None:
    """Check every byte against the checksums of the file, which torch does not; and that it does not expand.

    Raises:
        ValueError: If it is no checkpoint, or damaged.
    """
    if path.stat().st_size == 0:
        raise ValueError("an empty file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"expected {EXPECTED}")
    with zipfile.ZipFile(path) as file:
        # torch compresses nothing: what claims to be larger than the file is not from it.
        if sum(entry.file_size for entry in file.infolist()) > path.stat().st_size:
            raise ValueError("it claims to hold more than its own size")
        if (damaged := file.testzip()) is not None:
            raise ValueError(f"damaged: the checksum of {damaged} is wrong")


def find(run: Path) -> Path:
    """The checkpoint to use of a run folder: the best one, or else the last; a file is taken as it is.

    A name that is neither may be that of a released model.
    """
    if run.is_dir():
        for name in ("best.pt", "last.pt"):
            if (run / name).exists():
                return run / name
        raise CheckpointError(f"{run}: holds no checkpoint (best.pt or last.pt); expected {EXPECTED}")
    if not run.exists():
        released = {path.stem: path for path in sorted(RELEASED.glob("*.safetensors"))}
        if str(run) in released:
            return released[str(run)]
        names = f", nor a released model ({', '.join(released)})" if released and len(run.parts) == 1 else ""
        raise CheckpointError(f"{run}: no such run folder or checkpoint{names}")
    if not run.is_file():
        raise CheckpointError(f"{run}: expected {EXPECTED}")
    return run


def results_folder(checkpoint: Path) -> Path:
    """Where results go: the run folder; of a released model one below runs/, never into the package."""
    return Path("runs") / f"released-{checkpoint.stem}" if checkpoint.parent == RELEASED else checkpoint.parent


def restore(content: dict[str, Any], device: torch.device | str = "cpu") -> nn.Module:
    """The HyperSiren or the field of a checkpoint's content, in evaluation mode.

    Raises:
        CheckpointError: If the content is not that of a model that can be built here.
    """
    description = content["record"].get("model")
    if description is None:
        raise CheckpointError(
            "the checkpoint is of a field from outside hypersiren; build that field and load_state_dict"
        )
    try:
        if "class" in description:
            model = rebuild(description)
        else:  # as version 0.1 wrote them
            model = baseline(**description["field"]) if "field" in description else build(**description)
        model.load_state_dict(content["ema"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit this version of hypersiren ({_first_line(error)})"
        ) from None
    return model.to(device).eval().requires_grad_(False)


def playback(content: dict[str, Any]) -> dict[str, Any]:
    """What a rendering of a checkpoint's field must know: `task`, `samples`, and what the task adds.

    Raises:
        CheckpointError: If the checkpoint does not say it.
    """
    record = content["record"]
    if "playback" in record:
        found = record["playback"]
    else:
        about = dict(record.get("model") or {})  # as version 0.1 wrote them
        found = {"samples": about.pop("field", {}).get("samples", []), **about}
    samples = found.get("samples", []) if isinstance(found, dict) else None
    if not isinstance(samples, list) or not all(isinstance(count, int) for count in samples):
        samples = None
    if samples is None or len(samples) < {"sound": 1, "image": 2, "video": 3}.get(kind_of(found), 0):
        raise CheckpointError("the checkpoint does not say how its field is to be rendered")
    return found


def save(model: nn.Module | BoundSiren, path: str | os.PathLike[str]) -> None:
    """Write a HyperSiren or a field as safetensors, with its description as JSON metadata.

    Args:
        model: Any savable module (see `hypersiren.savable`), or one field that a hypernetwork predicted, such as
            `model.field(context).signal(0)`.
        path: The file; its name must end in .safetensors.

    Raises:
        CheckpointError: If the ending is another, or the file cannot be written.
        UserError: If the model is not savable.
    """
    if isinstance(model, BoundSiren):
        model = model.module()
    _write_safetensors(Path(path), {"model": describe(model)}, model.state_dict())


def release(run: Path, path: Path) -> None:
    """Write the model of a run of `hypersiren train` as safetensors in float16, with all that `complete` needs.

    Raises:
        CheckpointError: If there is no such run, or the file cannot be written.
    """
    content = read(find(run))
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in content["ema"].items()}
    _write_safetensors(path, {key: content["record"][key] for key in ("model", "settings")}, tensors)


def _write_safetensors(path: Path, record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: expected the ending .safetensors")
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"hypersiren": json.dumps({**record, "digest": _digest(record["model"], tensors)})}
    try:
        with atomic_write(path) as file:
            file.write(safetensors.torch.save(tensors, metadata))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from None


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> nn.Module:
    """The model of a run folder, a checkpoint, a file of `save`, or a released model, in evaluation mode.

    Args:
        path: A run folder of `hypersiren train` (a HyperSiren) or of `hypersiren fit` (a field), a checkpoint file, a
            .safetensors file, or the name of a released model where no such folder exists: faces, natural.
        device: Where to put it.

    Raises:
        CheckpointError: If there is no readable checkpoint.

    Example:
        >>> import tempfile
        >>> from hypersiren import Siren
        >>> siren = Siren(2, 3, hidden_features=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(siren, f"{folder}/siren.safetensors")
        ...     again = load(f"{folder}/siren.safetensors")
        >>> x = torch.rand(5, 2)
        >>> torch.equal(siren(x), again(x))
        True
    """
    return restore(read(find(Path(path))), device)


def read_safetensors(path: Path) -> dict[str, Any]:
    """The content of a file of `save`, as that of a checkpoint.

    Raises:
        CheckpointError: If the file is missing or was not written by `save`.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        record = json.loads(metadata["hypersiren"])
        if record.get("digest", digest := _digest(record["model"], tensors)) != digest:
            raise ValueError("damaged: its checksum is wrong")
        return {"record": record, "ema": tensors}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        check_library(error, path)
        raise CheckpointError(f"{path}: not a file that hypersiren saved ({_first_line(error)})") from None


def _digest(description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    """Of a model: safetensors has no checksums of its own."""
    found = hashlib.blake2b(json.dumps(description, sort_keys=True).encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
