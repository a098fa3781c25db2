"""What the tests of results share."""

import pytest

from experiments import _results


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setattr(_results, "RESULTS", tmp_path / "results")
    return tmp_path / "results"
