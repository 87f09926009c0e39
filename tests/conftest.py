"""Decoded data sets are cached in a folder of the test session, not in the user's."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERSIREN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
