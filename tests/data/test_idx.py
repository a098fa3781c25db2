"""The IDX format, byte by byte."""

import gzip

import numpy as np
import pytest

from jaxstruct.data import DataError, idx

# Two images of 1 x 3: zero, zero, type 8, three dimensions; 2, 1, 3; six pixels.
BY_HAND = bytes.fromhex("00000803 00000002 00000001 00000003 0001fe ff0a10".replace(" ", ""))


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_reads_what_was_built_by_hand(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(BY_HAND) if name.endswith(".gz") else BY_HAND)
    values = idx.read(path, 3, "two images")
    assert values.dtype == np.uint8
    assert values.tolist() == [[[0, 1, 254]], [[255, 10, 16]]]


PACKED = gzip.compress(BY_HAND, mtime=0)
CHECKSUM = bytes(byte ^ 255 for byte in PACKED[-8:-4])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PACKED[:-8] + CHECKSUM + PACKED[-4:], "CRC check failed 0x.*"),
        (PACKED[:-4] + b"\7\0\0\0", "Incorrect length of data produced"),
        (PACKED[:-9], "Compressed file ended .*"),
        (PACKED[:-1], "Compressed file ended .*"),
        (PACKED[:12], "Compressed file ended .*"),
        (PACKED[:10] + b"\xff" + PACKED[11:], "Error -3 while decompressing .*"),
        (PACKED + b"and more", "other bytes behind its end"),
    ],
    ids=["checksum", "length", "cut", "cut by one", "cut early", "block", "more"],
)
def test_a_damaged_gzip_is_corrupt_whatever_its_name(tmp_path, content, reason):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    expected = rf"^{path}: cut short or corrupt, get it again \({reason}\); expected two images$"
    with pytest.raises(DataError, match=expected):
        idx.read(path, 3, "two images")


def test_what_is_no_gzip_has_the_wrong_name(tmp_path):
    path = tmp_path / "images.gz"
    for content in (BY_HAND, b"\x1f", b"x"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"images\.gz: not a gzip file \(if it is unpacked "):
            idx.read(path, 3, "two images")
    path.write_bytes(PACKED + bytes(512))  # zeros behind the end are padding
    assert idx.read(path, 3, "two images").shape == (2, 1, 3)


def test_writes_what_was_built_by_hand(tmp_path):
    values = np.array([[[0, 1, 254]], [[255, 10, 16]]], np.uint8)
    idx.write(tmp_path / "images", values)
    idx.write(tmp_path / "images.gz", values)
    assert (tmp_path / "images").read_bytes() == BY_HAND
    assert gzip.decompress((tmp_path / "images.gz").read_bytes()) == BY_HAND


def test_refuses_to_write_other_types(tmp_path):
    with pytest.raises(TypeError, match="int64; expected uint8"):
        idx.write(tmp_path / "labels", np.arange(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BY_HAND[:-1], r"5 bytes of data; expected 6 for 2 x 1 x 3"),
        (BY_HAND + b"\0", r"7 bytes of data; expected 6"),
        (BY_HAND[:9], r"cut short, 9 bytes; expected two images, with a header of 16 bytes"),
        (b"\0\0\x08\x01" + BY_HAND[4:], r"magic number 0x00000801; expected 0x00000803"),
        (b"\0\0\x0d\x03" + BY_HAND[4:], r"magic number 0x00000d03; expected 0x00000803"),
        (b"", r"empty.*; expected two images"),
    ],
)
def test_names_the_file_and_what_was_expected(tmp_path, content, message):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        idx.read(path, 3, "two images")
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
