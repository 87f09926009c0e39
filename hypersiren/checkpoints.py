"""Checkpoints: one file of tensors and plain types, written beside and renamed, read with `weights_only=True`."""

import errno
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hypersiren.baselines import baseline
from hypersiren.errors import UserError
from hypersiren.models import build
from hypersiren.signals import atomic_write


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read; the message is one line for a person."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that the file is always either the old one or the new one, whole.

    Raises:
        CheckpointError: On a full disk or a folder that cannot be written; an older file stays as it was.
    """
    try:
        with atomic_write(path) as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        full = getattr(error, "errno", None) == errno.ENOSPC or "file write failed" in str(error)
        reason = "the disk is full" if full else _first_line(error)
        raise CheckpointError(f"{path}: cannot be written ({reason}); what was saved before is untouched") from None


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        CheckpointError: If the file is missing or is not a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # zip, pickle and storage errors, all of them meaning the same to a person
        raise CheckpointError(f"{path}: not a readable checkpoint ({_first_line(error)})") from None
    if not isinstance(content, dict) or "record" not in content:
        raise CheckpointError(f"{path}: expected a checkpoint of hypersiren, got another file of tensors")
    return content


def find(run: Path) -> Path:
    """The checkpoint to use of a run folder: the best one, or else the last; a file is taken as it is."""
    if run.is_dir():
        for name in ("best.pt", "last.pt"):
            if (run / name).exists():
                return run / name
        raise CheckpointError(f"{run}: holds no checkpoint (best.pt or last.pt); train a run first")
    if not run.exists():
        raise CheckpointError(f"{run}: no such run folder or checkpoint")
    return run


def restore(content: dict[str, Any], device: torch.device | str = "cpu") -> nn.Module:
    """The HyperSiren or the field of a checkpoint's content, in evaluation mode.

    Raises:
        CheckpointError: If the content is not that of a trained model of this version.
    """
    try:
        description = content["record"]["model"]
        model = baseline(**description["field"]) if "field" in description else build(**description)
        model.load_state_dict(content["ema"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit this version of hypersiren ({_first_line(error)})"
        ) from None
    return model.to(device).eval().requires_grad_(False)


def load(path: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """The trained model of a run folder or a checkpoint, in evaluation mode.

    Args:
        path: A run folder of `hypersiren train` (a HyperSiren) or of `hypersiren fit` (a field), or a checkpoint file.
        device: Where to put it.

    Raises:
        CheckpointError: If there is no readable checkpoint.
    """
    return restore(read(find(Path(path))), device)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
