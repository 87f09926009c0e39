"""Decoded data sets are cached in a folder of the test session, not in the user's; one thread, as tests are small."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch; with more, small tests wait for threads


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERSIREN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
