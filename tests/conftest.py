"""Decoded data sets are cached in a folder of the test session, not in the user's; one thread, as tests are small.

Every test has seeds of its own: what it draws does not depend on the tests before it.
"""

import os
import random
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch; with more, small tests wait for threads


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERSIREN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    seed_all()  # for the fixtures that tests share: whichever test comes first makes the same


@pytest.fixture(autouse=True)
def own_seeds(session_cache):
    seed_all()


@pytest.fixture
def unpainted(monkeypatch):
    """Figures are made but not painted: for tests of something else, as painting takes most of a small training."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    def blank(canvas):
        return np.zeros((int(canvas.figure.bbox.height), int(canvas.figure.bbox.width), 4), np.uint8)

    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: None)
    monkeypatch.setattr(FigureCanvasAgg, "buffer_rgba", blank)


@pytest.fixture(autouse=True)
def empty_summaries(request, monkeypatch):
    """Nor are their parts laid out: both but for tests that look at figures, which are marked `painted`.

    What tests share, such as a training that a whole file looks at, is made before this and has its figures.
    """
    kept = any(request.node.get_closest_marker(name) for name in ("painted", "device"))  # device: laid out, not painted
    if kept or not request.path.is_relative_to(Path(__file__).parent):
        return
    request.getfixturevalue("unpainted")
    from hypersiren.plotting import WIDTH, new_figure

    monkeypatch.setattr(
        "hypersiren.tasks.summary.draw_rows", lambda rows, title="", width=WIDTH: new_figure(9, width)[0]
    )


def seed_all() -> None:
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for tests and libraries that draw from it
    torch.manual_seed(0)
