"""What keeps a file from being picked."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gtpick_rt.arrivals.ready import flaw_of
from gtpick_rt.errors import IncompleteError, UnreadableError

PART_BYTES = 1 << 16


def test_a_whole_image_has_no_flaw(image: bytes) -> None:
    Path("a.mrc").write_bytes(image)
    assert flaw_of(Path("a.mrc")) is None


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, -1])
def test_a_shorter_file_is_incomplete(image: bytes, size: int) -> None:
    Path("a.mrc").write_bytes(image[:size])
    assert isinstance(flaw_of(Path("a.mrc")), IncompleteError)


@pytest.mark.parametrize("name", ["a.mrc", "a.tif", "a.mrc.gz"])
def test_a_file_of_zeros_is_incomplete(name: str) -> None:
    Path(name).write_bytes(bytes(100_000))
    flaw = flaw_of(Path(name))
    assert isinstance(flaw, IncompleteError)
    assert name in str(flaw)


@pytest.mark.parametrize("part", ["beginning", "middle", "end"])
def test_an_image_of_which_a_part_is_blank_is_incomplete(image: bytes, part: str) -> None:
    pixels = len(image) - 1024
    start = {"beginning": 0, "middle": (pixels - PART_BYTES) // 2, "end": pixels - PART_BYTES}[part] + 1024
    Path("a.mrc").write_bytes(image[:start] + bytes(PART_BYTES) + image[start + PART_BYTES :])
    flaw = flaw_of(Path("a.mrc"))
    assert isinstance(flaw, IncompleteError)
    assert part in str(flaw)
    assert "it is picked when it has stayed so" in str(flaw)
    Path("a.mrc").write_bytes(image[:start] + bytes(PART_BYTES - 1) + image[start + PART_BYTES - 1 :])
    assert flaw_of(Path("a.mrc")) is None


def test_a_blank_extended_header_is_no_flaw(image: bytes) -> None:
    header = bytearray(image[:1024])
    header[92:96] = np.array(131_072, "<i4").tobytes()
    Path("a.mrc").write_bytes(header + bytes(131_072) + image[1024:])
    assert flaw_of(Path("a.mrc")) is None


def test_a_tiff_is_incomplete_until_all_its_strips_are_there() -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (400, 500), np.uint8)
    tifffile.imwrite("a.tif", pixels, rowsperstrip=50)
    assert flaw_of(Path("a.tif")) is None
    whole = Path("a.tif").read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        Path("a.tif").write_bytes(whole[:size])
        assert isinstance(flaw_of(Path("a.tif")), IncompleteError)


def test_what_will_never_be_an_image_is_left_to_the_reader() -> None:
    Path("a.mrc").write_bytes(b"no image" * 1000)
    assert flaw_of(Path("a.mrc")) is None


def test_what_is_no_file_is_unreadable_and_is_not_opened() -> None:
    os.mkfifo("a.mrc")  # opening it would wait for a writer
    flaw = flaw_of(Path("a.mrc"))
    assert isinstance(flaw, UnreadableError)
    assert "not a regular file" in str(flaw)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_an_error_of_the_disk_makes_a_file_unreadable(
    image: bytes, number: int, failing_open: Callable[[int], None]
) -> None:
    Path("a.mrc").write_bytes(image)
    failing_open(number)
    flaw = flaw_of(Path("a.mrc"))
    assert isinstance(flaw, UnreadableError)
    assert os.strerror(number) in str(flaw)
