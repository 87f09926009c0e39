"""The arrows of the house: which room may import which, no circles, what imports no torch, what may not be called."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hypersiren

ROOT = Path(hypersiren.__file__).parent

ARROWS = {
    "cli": "studies export completion training tasks shapes signals fields hypernets plotting settings errors",
    "studies": "completion training tasks hypernets signals fields plotting settings errors",
    "export": "completion training hypernets fields signals errors",
    "completion": "training tasks hypernets shapes signals fields plotting settings values errors",
    "training": "tasks hypernets fields signals plotting settings errors",
    "tasks": "shapes waves signals fields plotting settings errors",
    "hypernets": "fields settings values errors",
    "shapes": "fields signals plotting settings errors",
    "waves": "fields signals errors",
    "signals": "plotting settings values errors",
    "fields": "settings errors",
    "plotting": "errors",
    "settings": "errors",
    "values": "errors",
    "errors": "",
}
"""Room -> rooms that it may import."""


def modules() -> dict[str, Path]:
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    return {name.removesuffix("__init__").rstrip("."): path for name, path in paths.items()}


def imported(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = str(node.module)
            if module.partition(".")[0] == "hypersiren":
                inner = module.removeprefix("hypersiren").lstrip(".")
                names = [f"{inner}.{alias.name}".lstrip(".") for alias in node.names]
                found |= {name if name in known else inner for name in names}
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("hypersiren.") for alias in node.names), f"{path}: import from"
    return found


MODULES = modules()
GRAPH = {name: imported(path, set(MODULES)) for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("name", ARROWS)
def test_a_room_imports_only_what_it_may(name):
    allowed = {name, *ARROWS[name].split()}
    wrong = {
        module: other
        for module in GRAPH
        if room(module) == name
        for other in GRAPH[module]
        if room(other) not in allowed
    }
    assert not wrong


def test_every_module_is_in_a_room_and_there_are_no_circles():
    assert {room(module) for module in GRAPH} - {"", "__main__"} == set(ARROWS)
    list(TopologicalSorter(GRAPH).static_order())  # raises CycleError


def test_the_rooms_and_few_files_beside_them():
    assert sorted(p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()) == sorted(
        [
            "cli",
            "completion",
            "export",
            "fields",
            "hypernets",
            "settings",
            "shapes",
            "signals",
            "studies",
            "tasks",
            "training",
            "waves",
        ]
    )
    assert len([p for p in ROOT.glob("*.py*") if p.is_file()]) <= 6


TORCH_FREE = [
    "errors", "settings.flags", "settings.describe", "plotting", "completion.registry", "fields.settings",
    "hypernets.settings", "signals.files", "signals.image.files", "signals.video.sources", "signals.sets.sources",
    "signals.sets.settings", "shapes.cloud", "shapes.mesh", "shapes.normals", "shapes.knot", "shapes.sides",
    "shapes.picture", "shapes.files.points", "shapes.files.mesh", "shapes.sets.settings", "tasks.registry",
    "training.folders", "cli.main",
]  # fmt: skip


def test_torch_is_not_imported_before_it_must():
    names = ", ".join(["hypersiren", *(f"hypersiren.{name}" for name in TORCH_FREE)])
    heavy = ("torch", "torchvision", "skimage", "scipy", "matplotlib", "trimesh", "av")
    code = f"import sys, {names}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_training_and_a_solve_import_nothing_heavy(tmp_path):
    """PyTorch's compiler takes seconds to import, the others some tenths."""
    heavy = ("torch._dynamo", "sympy", "skimage.metrics", "scipy.ndimage", "torchvision")
    network = {"hidden_features": 16}
    code = f"""
import sys, torch
from hypersiren import Image, fit
picture = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
fit(Image(picture), steps=2, network={network}, run_dir={str(tmp_path / "a")!r})
fit(Image(picture))
print([m for m in {heavy} if m in sys.modules])"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_cuda_calls_and_no_printing_in_the_library():
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert not (isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"), path
                if isinstance(node.func, ast.Name) and node.func.id == "print":
                    assert room(name) == "cli", path


def test_public_names_are_there():
    for name in hypersiren.__all__:
        assert getattr(hypersiren, name) is not None
    assert set(hypersiren.__all__) <= set(dir(hypersiren))
    with pytest.raises(AttributeError, match="Sirren"):
        _ = hypersiren.Sirren
