"""`hypersiren benchmark device`: on a CPU alone, and on a device that refuses everything."""

import json

import pytest
import torch

from hypersiren.cli import benchmark
from hypersiren.cli.main import main
from hypersiren.studies.benchmarks import device
from hypersiren.studies.benchmarks.measure import shown

CPU, META = torch.device("cpu"), torch.device("meta")
SMALL = ("--hypernet.hidden_features", "8", "--siren.hidden_features", "8", "--encoder.latent_features", "8")
MODELS = {
    "solve": ("default", "faces", ("--siren.hidden_features", "[8, 16]", "--correction.masks", "20")),
    "set": ("set", "celeba_set", SMALL),
    "cnn": ("cnn", "celeba_cnn", (*SMALL, "--encoder.size", "[SIZE, SIZE]")),
}


def test_without_a_gpu_the_cpu_is_compared_with_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "MODELS", MODELS)
    main(["benchmark", "device", "--rounds", "1", "--device", "cpu", "--out", str(tmp_path / "numbers.json")])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert found["benchmark"] == "device"
    assert found["settings"] == {"small": True, "rounds": 1}
    assert found["notes"] == [device.NO_GPU]
    asked, numbers, steps = found["tables"]
    assert {row["answer"] for row in asked["rows"].values()} == {"yes"}
    assert list(numbers["columns"]) == ["cpu"]
    assert all(0 < row["cpu"] < 1e-2 for row in numbers["rows"].values())
    assert list(steps["rows"]) == ["image, 1,024 points", "default", "set", "cnn", "matrix product 1024 x 1024, fp32"]
    assert list(steps["columns"]) == ["step", "peak memory", "model", "share"]
    for name, row in list(steps["rows"].items())[:-1]:
        assert all(row[column] > 0 for column in steps["columns"])
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert line.split() == [*name.split(), *(shown(row[column]) for column in steps["columns"])]
    assert device.NO_GPU in printed


def test_what_a_device_refuses_is_an_answer_with_its_reason():
    """No value can be asked of the device "meta"."""
    notes: list[str] = []
    asked = device.rules(META, notes).rows
    assert asked["float64"] == asked["products of integers"] == {"answer": "refused"}
    numbers = device.agreement(META, True, notes)
    assert list(numbers.columns) == ["cpu", "meta"]
    for row in numbers.rows.values():
        assert row["meta"] == "refused"
        assert row["cpu"] < 1e-2
    assert all(any(note.startswith(f"{name}: ") for note in notes) for name in (*asked, *numbers.rows))


def test_an_error_of_a_device_is_seen():
    """One that rounds its inputs to bfloat16, as TF32 does to 10 bits."""
    for name, quantity in device.quantities(small=True).items():
        exact = quantity(CPU, torch.float64)
        good = device.relative_error(quantity(CPU, torch.float32), exact)
        with rounded_products():
            bad = device.relative_error(quantity(CPU, torch.float32), exact)
        assert bad > 50 * good, name


class rounded_products(torch.utils._python_dispatch.TorchDispatchMode):
    """Products and convolutions of inputs that are rounded."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        rounded = function.overloadpacket.__name__ in ("mm", "bmm", "addmm", "baddbmm", "convolution")
        if rounded:
            args = [a.bfloat16().to(a.dtype) if isinstance(a, torch.Tensor) else a for a in args]
        return function(*args, **(kwargs or {}))


def test_a_step_that_a_device_refuses_is_told(monkeypatch):
    notes: list[str] = []

    def refuse(*given, **more):
        raise NotImplementedError("no such kernel\non this device")

    monkeypatch.setattr(device, "make_objective", refuse)
    settings = benchmark.read_models(["solve"], 8, 2)
    table = device.step_table(settings, True, 1, False, CPU, notes)
    name = next(iter(settings))
    assert table.rows[name] == {"step": "refused"}
    assert notes == [f"{name}: no such kernel"]
    assert table.rows["image, 1,024 points"]["step"] > 0


def test_mistakes_get_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "device", "--rounds", "0"])
    assert stopped.value.code == 2
    assert "--rounds of at least 1" in capsys.readouterr().err
