"""Which checkpoint is meant by the name of a run folder, a file, or a released model. Imports no torch."""

from mimetypes import guess_type
from pathlib import Path

from hypersiren.errors import UserError, did_you_mean
from hypersiren.training.folders import is_run

RELEASED = Path(__file__).parents[1] / "released"
"""Models that come with the package, one .safetensors file each; README.md there describes them."""

RETIRED = {
    "natural": "it is no longer released: photographs completes pictures at their own size, and "
    "`hypersiren train --config photos` trains a model like it"
}
"""What to use instead of models that were released once."""

EXPECTED = "a run folder of `hypersiren fit` or `hypersiren train`, or a checkpoint in it (best.pt, last.pt)"


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read; the message is one line for a person."""


def released() -> dict[str, Path]:
    """The files of released models by their names.

    Example:
        >>> {"faces", "photographs"} <= set(released())
        True
    """
    return {path.stem: path for path in sorted(RELEASED.glob("*.safetensors"))}


def runs_in(folder: Path) -> list[Path]:
    """The run folders in a folder, by name."""
    try:
        return sorted(path for path in folder.iterdir() if is_run(path))
    except OSError:
        return []


def find(run: Path) -> Path:
    """The checkpoint to use of a run folder: the best one, or else the last; a file is taken as it is.

    A name that is neither may be that of a released model.

    Raises:
        CheckpointError: If there is none.
    """
    if run.is_dir():
        for name in ("best.pt", "last.pt"):
            if (run / name).exists():
                return run / name
        raise CheckpointError(f"{run}: holds no checkpoint (best.pt or last.pt); expected {EXPECTED}")
    if not run.exists():
        models = released()
        if str(run) in models:
            return models[str(run)]
        if str(run) in RETIRED:
            raise CheckpointError(f"{run}: {RETIRED[str(run)]}")
        words = {str(path) for path in runs_in(run.parent)}
        alone = len(run.parts) == 1
        if alone:
            words |= {*models, *map(str, runs_in(Path("runs")))}
        names = f", nor a released model ({', '.join(models)})" if models and alone else ""
        near = did_you_mean(str(run), words, did_you_mean(f"runs/{run}", words))
        raise CheckpointError(f"{run}: no such run folder or checkpoint{names}{near}")
    signal = (guess_type(run.name)[0] or "").partition("/")[0] in ("image", "audio", "video", "text")
    if not run.is_file() or signal:
        raise CheckpointError(f"{run}: expected {EXPECTED}{', before the file' * signal}")
    return run


def results_folder(checkpoint: Path) -> Path:
    """Where results go: the run folder; of a released model one below runs/, never into the package."""
    return Path("runs") / f"released-{checkpoint.stem}" if checkpoint.parent == RELEASED else checkpoint.parent
