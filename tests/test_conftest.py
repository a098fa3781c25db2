"""The fixture `real_data`: no variable skips a test, and a folder that lacks its files fails it."""

import pytest

from tests import conftest

pytestmark = pytest.mark.real_data("mnist", "faces.mat")


@pytest.fixture
def named(monkeypatch, tmp_path):
    """A folder of real files that has one of the two that these tests name."""
    (tmp_path / "mnist").mkdir()
    monkeypatch.setattr(conftest, "REAL", str(tmp_path))
    return tmp_path


def test_without_a_folder_of_real_files_a_test_is_skipped(monkeypatch, request):
    monkeypatch.setattr(conftest, "REAL", None)
    with pytest.raises(pytest.skip.Exception, match=r"mnist faces\.mat; name a folder"):
        request.getfixturevalue("real_data")


def test_a_folder_that_lacks_a_file_fails_a_test(named, request):
    with pytest.raises(pytest.fail.Exception, match=r"lacks faces\.mat; put the files there"):
        request.getfixturevalue("real_data")


def test_a_folder_with_all_files_is_given(named, request):
    (named / "faces.mat").touch()
    assert request.getfixturevalue("real_data") == named
