"""Checkpoints: one file of tensors and plain types, written beside and renamed, read with `weights_only=True`."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from hypersiren.errors import UserError, clear_line
from hypersiren.fields.baselines import baseline
from hypersiren.fields.compact_windows import CompactWindows  # noqa: F401 - so that `restore` knows it
from hypersiren.fields.peers import from_peer, to_peer
from hypersiren.fields.render import kind_of
from hypersiren.fields.savable import describe, rebuild
from hypersiren.fields.siren import BoundSiren
from hypersiren.signals.files import atomic_write, check_library
from hypersiren.training.runs import EXPECTED, RELEASED, CheckpointError, find, results_folder  # noqa: F401 - as ours


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that the file is always either the old one or the new one, whole.

    Raises:
        CheckpointError: On a full disk or a folder that cannot be written, or if `read` would refuse what it holds; an
            older file stays as it was.
    """
    check_plain(content)
    with _writing(path, "; what was saved before is untouched") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _writing(path: Path, ending: str = "") -> Iterator[Any]:
    """A file to write, whole or not at all; what fails is one line."""
    kept = None
    try:
        with atomic_write(path) as file:
            yield (kept := _Telling(file))
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError of its own
        cause = getattr(kept, "error", None) or error
        full = getattr(cause, "errno", None) == errno.ENOSPC or "file write failed" in str(cause)
        reason = "the disk is full" if full else getattr(cause, "strerror", None) or _first_line(cause)
        raise CheckpointError(f"{path}: cannot be written ({reason}){ending}") from None


class _Telling:
    """A file that remembers why a write failed: torch says "enforce fail at inline_container.cc" of it."""

    def __init__(self, file: Any):
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


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
        hypersiren.training.runs.CheckpointError: record.playback.by.0: a checkpoint holds tensors and plain
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
            try:
                model = rebuild(description)
            except UserError:  # hypernetworks take a while to import, and a field needs none
                from hypersiren.hypernets.inpainter import Inpainter  # noqa: F401 - so that `rebuild` knows it
                from hypersiren.hypernets.model import HyperSiren  # noqa: F401 - likewise

                model = rebuild(description)
        else:  # as version 0.1 wrote them
            from hypersiren.hypernets.model import build

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
    if samples is None or len(samples) < {"sound": 1, "image": 2, "video": 3, "volume": 3}.get(kind_of(found), 0):
        raise CheckpointError("the checkpoint does not say how its field is to be rendered")
    return found


def save(
    model: nn.Module | BoundSiren,
    path: str | os.PathLike[str],
    *,
    like: str | None = None,
    corners: Sequence[int] | None = None,
    first_omega: float | None = None,
    hidden_omega: float | None = None,
) -> None:
    """Write a HyperSiren or a field as safetensors, with its description as JSON metadata; or for other code.

    Args:
        model: Any savable module (see `hypersiren.savable`), or one field that a hypernetwork predicted, such as
            `model.field(context).signal(0)`.
        path: The file; its name must end in .safetensors, or .pth or .pt for other code.
        like: "siren-pytorch" or "vsitzmann", to write the state dict of that code's network for a Siren.
        corners, first_omega, hidden_omega: Of that network, see `hypersiren.fields.peers.from_peer`.

    Raises:
        CheckpointError: If the ending is another, or the file cannot be written.
        UserError: If the model is not savable, or no Siren, which other code takes.
    """
    if isinstance(model, BoundSiren):
        model = model.module()
    omegas = {"first_omega": first_omega, "hidden_omega": hidden_omega}
    if like is not None:
        _write_state(Path(path), to_peer(model, like, corners=corners, **omegas))
        return
    _only_with_like(corners=corners, **omegas)
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
    with _writing(path) as file:
        file.write(safetensors.torch.save(tensors, metadata))


def load(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    *,
    like: str | None = None,
    corners: Sequence[int] | None = None,
    first_omega: float | None = None,
    hidden_omega: float | None = None,
) -> nn.Module:
    """The model of a run folder, a checkpoint, a file of `save`, or a released model, in evaluation mode.

    Or the weights of a SIREN that other code has trained: `load("theirs.pth", like="siren-pytorch")`.

    Args:
        path: A run folder of `hypersiren train` (a HyperSiren) or of `hypersiren fit` (a field), a checkpoint file, a
            .safetensors file, or the name of a released model where no such folder exists: faces, photographs.
        device: Where to put it.
        like: "siren-pytorch" or "vsitzmann", the code that has trained and written the weights in a file.
        corners: With `like`, the samples of its grid along each axis, such as (256, 256): theirs has points at -1 and
            1, and the field then has on `grid(corners)` what it had there. None: it has at x what it had at x.
        first_omega, hidden_omega: With `like`, the frequency factors, for no file has them, if they are not the
            defaults of that code: 30 and 1 of siren-pytorch (w0_initial and w0 there), 30 and 30 of vsitzmann's.

    Raises:
        CheckpointError: If there is no readable checkpoint.
        UserError: If the weights are not those of such a network.

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
    omegas = {"first_omega": first_omega, "hidden_omega": hidden_omega}
    if like is not None:
        try:
            siren = from_peer(_read_state(Path(path)), like, corners=corners, **omegas)
        except CheckpointError:
            raise
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        return siren.to(device).eval().requires_grad_(False)
    _only_with_like(corners=corners, **omegas)
    return restore(read(find(Path(path))), device)


def _only_with_like(**given: Any) -> None:
    if named := [name for name, value in given.items() if value is not None]:
        raise UserError(f'{named[0]}: expected like="siren-pytorch" or "vsitzmann" beside it')


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file of other code."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # zip, pickle and storage errors
        raise CheckpointError(f"{path}: not a file of weights that is safe to read ({_first_line(error)})") from None
    for key in ("state_dict", "model_state_dict", "model"):  # as many keep it beside an optimiser's
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: expected a state dict, tensors by their names")
    return content


def _write_state(path: Path, state: dict[str, torch.Tensor]) -> None:
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise CheckpointError(f"{path}: expected the ending .pth, .pt or .safetensors")
    with _writing(path) as file:
        if path.suffix == ".safetensors":
            file.write(safetensors.torch.save(state))
        else:
            torch.save(state, file)


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
