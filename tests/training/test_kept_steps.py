"""What fails after a step, such as a validation, a picture or a logger, costs no step: the run resumes."""

import pytest
import torch

from hypersiren import Image, fit
from hypersiren.training.checkpoints import read
from hypersiren.training.fit import Fit
from hypersiren.training.objectives import FieldObjective

PIXELS = torch.rand(12, 12, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
MORE = {"steps": 4, "validate_every": 2, "log_every": 1, "network": {"hidden_features": 8}}


class Failing(Image):
    """An image of which something fails, as often as is said."""

    def __init__(self, what, at, points=None):
        super().__init__(PIXELS, points=points)
        self.what, self.at, self.calls = what, at, 0

    def fail(self, what):
        self.calls += what == self.what
        if what == self.what and self.calls == self.at:
            raise MemoryError("for this test")

    def evaluate(self, field):
        self.fail("evaluate")
        return super().evaluate(field)

    def panels(self, field):
        self.fail("panels")
        return super().panels(field)


@pytest.fixture(autouse=True)
def no_summary(monkeypatch):
    monkeypatch.setattr(Fit, "plot", lambda result, path: None)
    monkeypatch.setattr(FieldObjective, "pictures", lambda *arguments: {})


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize(("what", "at", "steps"), [("evaluate", 1, 2), ("evaluate", 2, 4), ("panels", 1, 2)])
def test_a_validation_that_fails_keeps_its_steps(what, at, steps, tmp_path):
    straight = fit(Image(PIXELS), run_dir=tmp_path / "straight", **MORE)
    task = Failing(what, at)
    with pytest.raises(MemoryError, match="for this test"):
        fit(task, run_dir=tmp_path / "cut", **MORE)
    assert read(tmp_path / "cut/last.pt")["step"] == steps
    resumed = fit(task, run_dir=tmp_path / "cut", **MORE)
    assert resumed.finished
    assert resumed.metrics == straight.metrics
    assert without_seconds(resumed.history) == without_seconds(straight.history)
    for mine, other in zip(resumed.field.parameters(), straight.field.parameters(), strict=True):
        assert torch.equal(mine, other)
    best, last = read(tmp_path / "cut/best.pt"), read(tmp_path / "cut/last.pt")
    assert best["metrics"]
    assert not last["due"]


def test_a_logger_that_fails_keeps_the_steps(tmp_path):
    def fails(step, values):
        if step == 3:
            raise ConnectionError("no network")

    with pytest.raises(ConnectionError):
        fit(Image(PIXELS), run_dir=tmp_path, on_log=fails, **MORE)
    assert read(tmp_path / "last.pt")["step"] == 3
    assert fit(Image(PIXELS), run_dir=tmp_path, **MORE).finished
