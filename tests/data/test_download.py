"""Downloads, from a server of the test's own."""

import dataclasses
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jaxstruct import data
from jaxstruct.data import CATALOGUE, DataError
from jaxstruct.data.download import fetch
from jaxstruct.data.entry import File


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(data_dir):
    """The address at which the raw files of the small MNIST are served."""
    handler = partial(Silent, directory=data_dir / "mnist")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def served(server, data_dir, monkeypatch):
    """MNIST's entry, whose files come from the server, the first address being dead."""
    entry = CATALOGUE["mnist"]
    files = tuple(
        dataclasses.replace(
            file,
            urls=(f"{server}nothing/{file.name}", server + file.name),
            md5=hashlib.md5((data_dir / "mnist" / file.name).read_bytes()).hexdigest(),
        )
        for file in entry.files
    )
    monkeypatch.setitem(CATALOGUE, "mnist", dataclasses.replace(entry, files=files))
    return files


def test_prepare_downloads_once(served, tmp_path, capsys):
    with pytest.raises(DataError, match="prepare mnist"):
        data.load("mnist", "train")  # a run never does
    assert data.prepare("mnist").splits == {"train": 12, "test": 5}
    assert capsys.readouterr().err.count("http") == 8
    downloads = tmp_path / "prepared" / "downloads" / "mnist"
    assert sorted(path.name for path in downloads.iterdir()) == sorted(f.name for f in served)
    data.prepare("mnist")
    assert data.load("mnist", "train").size == 12
    assert capsys.readouterr().err == ""


def test_prepare_downloads_what_is_missing_into_data_dir(served, tmp_path, data_dir):
    (data_dir / "mnist" / served[1].name).rename(tmp_path / "labels")
    with data.looking(data_dir), pytest.raises(DataError, match="could not be downloaded"):
        data.prepare("mnist")  # the server has lost it too
    (tmp_path / "labels").rename(data_dir / "mnist" / served[1].name)
    with data.looking(tmp_path / "new"):
        data.prepare("mnist")
    assert len(list((tmp_path / "new" / "mnist").iterdir())) == 4


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    file = File("train-labels-idx1-ubyte.gz", (server + "train-labels-idx1-ubyte.gz",), "0" * 32)
    with pytest.raises(DataError, match=f"md5 [0-9a-f]{{32}}, expected {'0' * 32}") as error:
        fetch([file], tmp_path / "into")
    assert server in str(error.value)
    assert f"put it into {tmp_path / 'into'}" in str(error.value)
    assert not list((tmp_path / "into").iterdir())


def test_no_network_names_every_address_and_the_folder(tmp_path):
    urls = ("http://127.0.0.1:9/file", (tmp_path / "nothing").as_uri())
    with pytest.raises(DataError) as error:
        fetch([File("file", urls, "")], tmp_path)
    for part in (*urls, f"put it into {tmp_path}", str(tmp_path / "file")):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_download_is_checked_by_its_content(tmp_path):
    (tmp_path / "there").write_bytes(b"container of 123")
    md5 = hashlib.md5(b"123").hexdigest()
    urls = ((tmp_path / "there").as_uri(),)
    fetch([File("file", urls, md5, content=lambda path: path.read_bytes()[-3:])], tmp_path / "a")
    assert (tmp_path / "a" / "file").read_bytes() == b"container of 123"


@pytest.mark.real_data("frey_face")
def test_the_checksum_of_real_faces(real_data, tmp_path):
    (file,) = CATALOGUE["frey_face"].files
    here = dataclasses.replace(file, urls=((real_data / "frey_face" / file.name).as_uri(),))
    fetch([here], tmp_path)
    assert (tmp_path / file.name).exists()
