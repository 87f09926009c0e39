"""The commands `compare` and `initialisation`. Imports no torch before it must."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hypersiren.cli.console import File, check_least, choose_device, fail, files_of, keep_freed_memory, make_folder, say
from hypersiren.cli.fit import open_signal, read_settings, run_name
from hypersiren.settings import to_yaml
from hypersiren.training.folders import check_folder, choose_folder, sign, to_json, unused, write_text


def compare(
    task: str,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    fields: str = "siren,relu,tanh,relu_pe",
    preset: Literal["fast", "paper"] = "fast",
    config: File | None = None,
    out: File | None = None,
) -> None:
    """Fit several fields side by side, with equally many weights and steps; a table and a picture.

    Args:
        task: As for `fit`.
        words: File, then flags, as for `fit`.
        fields: Names, with commas: siren, relu, tanh, softplus, relu_pe, relu_fourier, rbf, wire, finer; or pinn: 8
            layers of 20 tanh and L-BFGS, whatever the settings say.
        preset: fast, or the paper's settings.
        config: YAML file of settings in place of a preset.
        out: Folder for table.txt, metrics.json and comparison.png; by default runs/compare- and task and file, with a
            number if that holds another comparison.
    """
    keep_freed_memory()
    settings = read_settings(task, words, preset, config)
    if out is not None:
        check_folder(out, files_of(settings))
    device = choose_device(settings.device)

    from hypersiren.fields.baselines import BASELINES
    from hypersiren.signals.image.files import write_image
    from hypersiren.studies import comparison

    names = fields.split(",")
    known = [*BASELINES, *comparison.OTHERS]
    if unknown := [name for name in names if name not in known]:
        fail(f"--fields: expected some of {', '.join(known)}, got {unknown[0]!r}")
    made, settings = open_signal(task, settings, device)
    record = {**settings.model_dump(mode="json"), "fields": fields}
    base = Path("runs") / f"compare-{run_name(task, settings)}"
    folder = out or choose_folder(base, record, made.digest())
    make_folder(folder)
    sign(folder, made.digest())
    write_text(folder / "config.yaml", to_yaml(record))
    found = comparison.compare(made, names, settings, progress=True)
    print(found)
    write_text(folder / "table.txt", f"{found}\n")
    write_text(folder / "metrics.json", to_json(found.metrics))
    write_image(folder / "comparison.png", found.picture())
    say(f"table and picture in {folder}")


def initialisation(
    *,
    fields: str = "siren,tanh,relu,softplus",
    hidden_layers: int = 6,
    hidden_features: int = 256,
    seed: int = 0,
    out: File | None = None,
) -> None:
    """Draw how activations and gradients are distributed by depth before any training (paper, section 3.2).

    Args:
        fields: Names, with commas: siren, relu, tanh, softplus, relu_pe, relu_fourier, rbf, wire, finer.
        hidden_layers: Layers between the first and the last.
        hidden_features: Width.
        seed: Fixes the weights.
        out: The picture; by default initialisation.png, with a number if that is there.
    """
    check_least(0, hidden_layers=hidden_layers, seed=seed)
    check_least(1, hidden_features=hidden_features)
    if out is not None and not out.parent.is_dir():
        fail(f"{out}: expected a name in a folder that exists")
    from hypersiren.signals.image.files import write_image
    from hypersiren.studies.initialisation import initialisation_study

    study = initialisation_study(
        fields.split(","), hidden_layers=hidden_layers, hidden_features=hidden_features, seed=seed
    )
    print(study.table())
    target = out or unused(Path("initialisation.png"))[0]
    write_image(target, study.picture())
    say(str(target))
