"""The arrows of the house: a room imports only rooms below it; torch-free rooms stay so; nothing calls `.cuda()`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hypersiren

ROOT = Path(hypersiren.__file__).parent

# Each row may import the rows above it.
ROWS = [
    {"errors", "spectrum"},
    {
        "config",
        "coords",
        "metrics",
        "signals",
        "interpolation",
        "filters",
        "console",
        "drawing",
        "encodings",
        "contours",
        "complex_channels",
        "muon",
        "wave_solver",
    },
    {
        "config_io",
        "shape_config",
        "fit_config.base",
        "optimizers",
        "pictures",
        "layers",
        "raw_points",
        "meshes",
        "marching_cubes",
        "sound",
        "video_sources",
        "sound_pictures",
        "pml",
        "media",
    },
    {
        "jets",
        "ply",
        "pcd",
        "rendering",
        "video",
        "helmholtz_solver",
        "fit_config.images",
        "fit_config.recordings",
        "fit_config.surfaces",
        "fit_config.waves",
    },
    {"fit_config"},
    {"point_files"},
    {"clouds"},
    {"example_shapes"},
    {"siren", "inversion_data", "waves", "poses"},
    {"operators", "activations", "benchmark_jets"},
    {"level_blocks", "shape_metrics"},
    {"level_slabs"},
    {"level_sets"},
    {"surfaces", "solids"},
    {"encoders", "hypernets", "baselines", "near_field", "initial_pulse"},
    {"conv_encoder", "initialisation"},
    {"models"},
    {"sources"},
    {"torchvision_sets", "decoding"},
    {"datasets"},
    {"tasks"},
    {"tasks.completion", "tasks.image", "tasks.helmholtz"},
    {"tasks.inpaint", "tasks.poisson", "tasks.audio", "tasks.video", "tasks.sdf", "tasks.wave", "tasks.inversion"},
    {"tasks.edit", "refinement", "shape_sets"},
    {"tasks.shapes"},
    {"monitor", "checkpoints", "outputs"},
    {"training", "completion", "playback"},
    {"benchmark", "fitting"},
    {"comparison", "benchmark_steps", "shape_completion"},
    {"cli_shapes"},
    {"cli_hypernet", "cli_fit", "cli_mesh"},
    {"cli_benchmark"},
    {"cli"},
]


def modules() -> dict[str, Path]:
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(p for p in parts if p != "__init__")] = path
    return names


def imported(path: Path) -> set[str]:
    """Rooms of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{a.name}" if node.module == "hypersiren" else str(node.module) for a in node.names]
        else:
            continue
        found |= {name.removeprefix("hypersiren.") for name in names if name.startswith("hypersiren.")}
    return found


def test_every_room_has_its_place():
    assert set().union(*ROWS) == set(modules()) - {""}


@pytest.mark.parametrize("room", sorted(set(modules()) - {""}))
def test_arrows_run_one_way(room):
    level = {name: i for i, row in enumerate(ROWS) for name in row}
    wrong = [other for other in imported(modules()[room]) if level[other] >= level[room]]
    assert not wrong, f"{room} imports {wrong}"


@pytest.mark.parametrize(
    "module", ["hypersiren", "hypersiren.cli", "hypersiren.config_io", "hypersiren.signals", "hypersiren.clouds"]
)
def test_torch_is_not_imported_before_it_must(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'torchvision', 'skimage', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_cuda_calls_and_no_printing_in_the_library():
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert not (isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"), path
                if isinstance(node.func, ast.Name) and node.func.id == "print":
                    assert name.startswith("cli") or name == "console", path


def test_public_names_are_there():
    for name in hypersiren.__all__:
        assert getattr(hypersiren, name) is not None
    assert set(hypersiren.__all__) <= set(dir(hypersiren))
    with pytest.raises(AttributeError, match="no attribute 'Sirren'"):
        _ = hypersiren.Sirren
