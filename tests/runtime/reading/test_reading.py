import bz2
import contextlib
import errno
import gzip
import os
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gtpick_rt.errors import FormatError, IncompleteError, MicrographError, PixelError, UnreadableError
from gtpick_rt.reading.micrographs import ImageInfo, probe, read_micrograph
from gtpick_rt.reading.mrc import parse_header

# Not square, and different under every flip and transposition.
IMAGE = np.add.outer(10 * np.arange(8), np.arange(5))
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
PIXEL = 1.25


def mrc_bytes(
    image: np.ndarray = IMAGE,
    mode: int = 2,
    order: str = "<",
    pixel: float = PIXEL,
    extended: bytes = b"",
    **fields: int,
) -> bytes:
    """An MRC file made by hand from the format's definition;

    `fields` override those of the header.
    """
    height, width = image.shape
    field = {"nx": width, "ny": height, "nz": 1, "mode": mode, "nsymbt": len(extended), **fields}
    head = bytearray(1024)
    struct.pack_into(order + "4i", head, 0, field["nx"], field["ny"], field["nz"], field["mode"])
    struct.pack_into(order + "3i", head, 28, width, height, 1)
    struct.pack_into(order + "3f", head, 40, width * pixel, height * pixel, pixel)
    struct.pack_into(order + "i", head, 92, field["nsymbt"])
    head[208:212] = b"MAP "
    head[212:216] = b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0"
    return bytes(head) + extended + image.astype(order + MODES.get(mode, "f4")).tobytes()


def flipped(data: bytes, at: int) -> bytes:
    """`data` with one byte changed; both formats end in a checksum."""
    changed = bytearray(data)
    changed[at] ^= 0x55
    return bytes(changed)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_byte_order_reads_alike(save: Callable[[str, bytes], Path], mode: int, order: str) -> None:
    path = save("a.mrc", mrc_bytes(mode=mode, order=order))
    kept = read_micrograph(path, keep_float16=True).data
    assert kept.dtype == (np.float16 if mode == 12 else np.float32)
    assert kept.dtype.isnative
    np.testing.assert_array_equal(kept, IMAGE)
    micrograph = read_micrograph(path)
    assert micrograph.data.dtype == np.float32
    assert micrograph.data.flags.c_contiguous
    np.testing.assert_array_equal(micrograph.data, IMAGE)
    assert micrograph.pixel_size_A == pytest.approx(PIXEL)
    assert micrograph.path == path


def test_negative_and_large_integers_keep_their_values(save: Callable[[str, bytes], Path]) -> None:
    image = np.array([[-128, 127, -1]])
    np.testing.assert_array_equal(read_micrograph(save("a.mrc", mrc_bytes(image, mode=0))).data, image)
    image = np.array([[0, 65535, 40000]])
    np.testing.assert_array_equal(read_micrograph(save("b.mrc", mrc_bytes(image, mode=6))).data, image)


def test_a_file_of_another_writer_reads_alike(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(IMAGE.astype(np.float32))
        file.voxel_size = PIXEL
    micrograph = read_micrograph(tmp_path / "a.mrc")
    np.testing.assert_array_equal(micrograph.data, IMAGE)
    assert micrograph.pixel_size_A == pytest.approx(PIXEL)


@pytest.mark.parametrize(
    ("name", "compress"), [("a.mrc.gz", gzip.compress), ("a.mrc.bz2", bz2.compress), ("A.MRC.GZ", gzip.compress)]
)
def test_compressed_files_read_alike(
    save: Callable[[str, bytes], Path], name: str, compress: Callable[[bytes], bytes]
) -> None:
    path = save(name, compress(mrc_bytes(extended=b"x" * 100)))
    np.testing.assert_array_equal(read_micrograph(path).data, IMAGE)
    assert probe(path) == ImageInfo(path, 5, 8, "float32", pytest.approx(PIXEL))


def test_an_extended_header_is_skipped_and_trailing_bytes_are_ignored(save: Callable[[str, bytes], Path]) -> None:
    path = save("a.mrcs", mrc_bytes(extended=b"\xff" * 1000) + b"\xff" * 7)
    np.testing.assert_array_equal(read_micrograph(path).data, IMAGE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stamp", [b"\x11\x11\0\0", b"\x44\x44\0\0", bytes(4)])
def test_a_wrong_or_missing_machine_stamp_does_not_matter(
    save: Callable[[str, bytes], Path], stamp: bytes, mode: int, order: str
) -> None:
    data = bytearray(mrc_bytes(mode=mode, order=order))
    data[212:216] = stamp
    np.testing.assert_array_equal(read_micrograph(save("a.mrc", bytes(data))).data, IMAGE)


@pytest.mark.parametrize("space_group", [-1, 0, 1, 401, 630])
@pytest.mark.parametrize("depth", [-1, 0, 5])
@pytest.mark.parametrize("identity", [b"MAP ", bytes(4)])
def test_fields_that_say_nothing_of_the_pixels_do_not_matter(
    save: Callable[[str, bytes], Path], space_group: int, depth: int, identity: bytes
) -> None:
    data = bytearray(mrc_bytes())
    struct.pack_into("<i", data, 36, depth)
    struct.pack_into("<i", data, 88, space_group)
    data[208:212] = identity
    np.testing.assert_array_equal(read_micrograph(save("a.mrc", bytes(data))).data, IMAGE)


@pytest.mark.parametrize(
    ("name", "compress"), [("a.mrc", bytes), ("a.mrc.gz", gzip.compress), ("a.mrc.bz2", bz2.compress)]
)
def test_reading_takes_the_memory_of_one_image(
    save: Callable[[str, bytes], Path], name: str, compress: Callable[[bytes], bytes]
) -> None:
    image = np.zeros((2048, 2048), np.float32)
    path = save(name, compress(mrc_bytes(image)))
    read_micrograph(path)
    tracemalloc.start()
    read_micrograph(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * image.nbytes


def test_a_file_that_is_cut_short_while_it_is_read_is_incomplete(
    save: Callable[[str, bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("a.mrc", mrc_bytes()[:-1])
    monkeypatch.setattr("gtpick_rt.reading.mrc.regular_size", lambda path: len(mrc_bytes()))
    with pytest.raises(IncompleteError, match=r"1183 of 1184 bytes are there: .*wait until it is whole"):
        read_micrograph(path)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32"])
@pytest.mark.parametrize("order", "<>")
def test_a_tiff_is_the_mrc_with_its_rows_flipped(tmp_path: Path, dtype: str, order: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE.astype(dtype), byteorder=order)
    micrograph = read_micrograph(tmp_path / "a.tif", PIXEL)
    np.testing.assert_array_equal(micrograph.data, IMAGE[::-1])
    assert micrograph.data.dtype == np.float32
    assert micrograph.data.flags.c_contiguous
    assert probe(tmp_path / "a.tif").mode == dtype


def test_negative_pixels_of_a_tiff_stay_negative(tmp_path: Path) -> None:
    for dtype in ("int8", "int16"):
        tifffile.imwrite(tmp_path / "a.tif", -IMAGE.astype(dtype))
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif", PIXEL).data, -IMAGE[::-1])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_reads_alike(tmp_path: Path, compression: str) -> None:
    Image.fromarray(IMAGE.astype(np.float32)).save(tmp_path / "a.tiff", compression=compression)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tiff", PIXEL).data, IMAGE[::-1])


def test_a_tiled_big_tiff_reads_alike(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE.astype(np.float32), tile=(16, 16), bigtiff=True)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif", PIXEL).data, IMAGE[::-1])


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", IncompleteError, "0 of 1024 .*: wait until it is whole, or copy it again"),
        (mrc_bytes()[:1000], IncompleteError, "1000 of 1024"),
        (mrc_bytes()[:-1], IncompleteError, "1183 of 1184"),
        (mrc_bytes(nsymbt=400), IncompleteError, "truncated"),
        (mrc_bytes(nsymbt=2**31 - 1), FormatError, "extended header"),
        (mrc_bytes(nsymbt=-1), FormatError, "extended header"),
        (mrc_bytes(nx=-5), FormatError, "-5 x 8"),
        (mrc_bytes(ny=0), FormatError, "5 x 0"),
        (mrc_bytes(nx=2**30), FormatError, "not an MRC file"),
        (mrc_bytes(nx=65536, ny=65536), FormatError, "65536 x 65536"),
        (mrc_bytes(nx=16385, ny=16384), FormatError, "16385 x 16384"),
        (mrc_bytes(nz=40), FormatError, "stack or volume of 40"),
        (mrc_bytes(mode=4), FormatError, "mode 4"),
        (mrc_bytes(mode=101), FormatError, "mode 101"),
        (b"just some text " * 100, FormatError, "not an MRC file"),
    ],
)
def test_each_kind_of_bad_mrc_has_its_error(
    save: Callable[[str, bytes], Path], data: bytes, error: type[MicrographError], says: str
) -> None:
    path = save("a.mrc", data)
    for read in (probe, read_micrograph):
        with pytest.raises(error, match=says) as raised:
            read(path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.mrc.gz", gzip.compress(mrc_bytes())[:-40], IncompleteError),
        ("a.mrc.gz", gzip.compress(mrc_bytes()[:-8]), IncompleteError),
        ("a.mrc.gz", b"", IncompleteError),
        ("a.mrc.gz", mrc_bytes(), FormatError),
        ("a.mrc.gz", gzip.compress(mrc_bytes())[:-4], IncompleteError),
        ("a.mrc.gz", flipped(gzip.compress(mrc_bytes()), -8), FormatError),
        ("a.mrc.bz2", bz2.compress(mrc_bytes())[:-40], IncompleteError),
        ("a.mrc.bz2", bz2.compress(mrc_bytes())[:-4], IncompleteError),
        ("a.mrc.bz2", flipped(bz2.compress(mrc_bytes()), -5), FormatError),
        ("a.mrc.bz2", mrc_bytes(), FormatError),
    ],
)
def test_each_kind_of_bad_compressed_mrc_has_its_error(
    save: Callable[[str, bytes], Path], name: str, data: bytes, error: type[MicrographError]
) -> None:
    with pytest.raises(error):
        read_micrograph(save(name, data))


def test_a_bomb_is_hardly_decompressed_further_than_the_header_asks(save: Callable[[str, bytes], Path]) -> None:
    path = save("a.mrc.gz", gzip.compress(mrc_bytes() + bytes(200_000_000)))
    tracemalloc.start()
    with pytest.raises(FormatError, match="much more than the image"):
        read_micrograph(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_tiff_strip_that_expands_beyond_its_tags_is_not_expanded(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE.astype(np.float32), compression="zlib")
    bomb = zlib.compress(IMAGE.astype(np.float32).tobytes() + bytes(200_000_000))
    end = path.stat().st_size
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["StripOffsets"].overwrite(end)
        tiff.pages.first.tags["StripByteCounts"].overwrite(len(bomb))
    with path.open("ab") as file:
        file.write(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_array_equal(read_micrograph(path, PIXEL).data, IMAGE[::-1])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: tifffile.imwrite(path, np.stack([IMAGE, IMAGE]), photometric="minisblack"), "several pages"),
        (lambda path: tifffile.imwrite(path, np.zeros((8, 5, 3), np.uint8), photometric="rgb"), "colour"),
        (lambda path: tifffile.imwrite(path, IMAGE.astype(np.float64)), "float64"),
        (lambda path: tifffile.imwrite(path, IMAGE.astype("u1"), extratags=[(274, "H", 1, 4, True)]), "orientation 4"),
        (lambda path: path.write_bytes(b"just some text"), "not a TIFF"),
        (lambda path: path.write_bytes(b"II*\0\x08\0\0\0" + bytes(100)), "0 x 0"),
    ],
)
def test_each_kind_of_bad_tiff_has_its_error(tmp_path: Path, write: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "a.tif"
    write(path)
    for read in (probe, read_micrograph):
        with pytest.raises(FormatError, match=says):
            read(path)


def test_a_tiff_that_claims_too_many_pixels_is_refused_before_reading_any(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE.astype(np.float32))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages.first.tags[tag].overwrite(100_000)
    with pytest.raises(FormatError, match="100000 x 100000"):
        probe(path)


@pytest.mark.parametrize("length", [0, 4, 8, 300])
def test_a_tiff_cut_short_is_incomplete(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE.astype(np.float32))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(IncompleteError):
        probe(path)


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"No such file or directory$"):
        probe(tmp_path / "a.mrc")
    with pytest.raises(UnreadableError, match=r"No such file.*relative to the RELION project: run from there"):
        probe(Path("absent/a.mrc"))


@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_forbidden_file_is_unreadable(
    save: Callable[[str, bytes], Path], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = save("a.mrc", mrc_bytes())

    def forbidden(self: Path, *args: object, **kwargs: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))  # as anyone but root would get

    monkeypatch.setattr(Path, call, forbidden)
    for read in (probe, read_micrograph):
        with pytest.raises(UnreadableError, match=r"a\.mrc: cannot be read: Permission denied"):
            read(path)


def test_a_folder_or_pipe_is_unreadable_and_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "a.mrc").mkdir()
    os.mkfifo(tmp_path / "b.mrc")
    for name in ("a.mrc", "b.mrc"):
        with pytest.raises(UnreadableError, match="not a regular file"):
            probe(tmp_path / name)


def test_an_unknown_suffix_is_refused_with_a_list_of_the_known(save: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(FormatError, match=r"\.mrc \.mrcs \.mrc\.gz"):
        probe(save("a.png", b""))


@pytest.mark.parametrize("name", ["a\n.mrc", "a\x1b[31m.mrc", os.fsdecode(b"a\xff.mrc"), "a'b\"c.mrc"])
def test_names_that_no_star_file_can_hold_are_refused(save: Callable[[str, bytes], Path], name: str) -> None:
    path = save(name, mrc_bytes())
    with pytest.raises(FormatError, match="rename the file") as raised:
        read_micrograph(path)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", ["a b.mrc", "it's.mrc", "#1.mrc", "é.mrc", 'a"b.mrc'])
def test_other_odd_names_are_read(save: Callable[[str, bytes], Path], name: str) -> None:
    assert read_micrograph(save(name, mrc_bytes())).data.shape == IMAGE.shape


@pytest.mark.parametrize("mode", [2, 12])
def test_a_few_bad_pixels_become_the_median(save: Callable[[str, bytes], Path], mode: int) -> None:
    image = np.full((20, 20), 7.0)
    image[0, :5] = 100
    image[3, 4], image[5, 6] = np.nan, np.inf
    image[7, 8] = 65504  # the largest float16
    micrograph = read_micrograph(save("a.mrc", mrc_bytes(image, mode=mode)), keep_float16=True)
    data = micrograph.data
    assert data[7, 8] == 65504
    assert data[3, 4] == data[5, 6] == 7
    assert (data[0, :5] == 100).all()
    assert micrograph.warnings == ("2 NaN or infinite pixels replaced by the median",)


@pytest.mark.parametrize("mode", [2, 12])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_single_bad_pixel_is_found(save: Callable[[str, bytes], Path], mode: int, value: float) -> None:
    image = np.full((700, 900), -65504.0)  # of two parts or more
    image[::2] = 65504
    image[-1, -1] = value
    micrograph = read_micrograph(save("a.mrc", mrc_bytes(image, mode=mode)), keep_float16=True)
    assert np.isfinite(micrograph.data).all()
    assert micrograph.warnings == ("1 NaN or infinite pixel replaced by the median",)


def test_many_bad_pixels_are_an_error(save: Callable[[str, bytes], Path]) -> None:
    image = np.zeros((20, 20))
    image[0, :4] = np.nan
    with pytest.raises(PixelError, match="4 of 400"):
        read_micrograph(save("a.mrc", mrc_bytes(image)))


def test_a_constant_image_is_read(save: Callable[[str, bytes], Path]) -> None:
    assert (read_micrograph(save("a.mrc", mrc_bytes(np.full((4, 4), 3.0)))).data == 3).all()


@pytest.mark.parametrize("pixel", [0.0, 1.0, -1.0, float("nan"), 1e9])
def test_a_pixel_size_that_means_unknown_must_be_given(save: Callable[[str, bytes], Path], pixel: float) -> None:
    path = save("a.mrc", mrc_bytes(pixel=pixel))
    with pytest.raises(PixelError, match=r"exactly 1\.00 Å/px.*pass --pixel-size"):
        read_micrograph(path)
    assert read_micrograph(path, 1.0).pixel_size_A == 1.0


def test_the_given_pixel_size_wins_with_a_warning_where_the_header_disagrees(
    save: Callable[[str, bytes], Path],
) -> None:
    path = save("a.mrc", mrc_bytes())
    close, other = read_micrograph(path, PIXEL * 1.005), read_micrograph(path, 2.5)
    assert (close.pixel_size_A, close.warnings) == (PIXEL * 1.005, ())
    assert (other.pixel_size_A, other.warnings) == (2.5, ("using 2.5 Å per pixel; the header says 1.25",))


@pytest.mark.parametrize(
    ("header", "option", "listed", "chosen", "warned"),
    [
        (1.25, None, None, 1.25, []),
        (1.25, None, 2.5, 2.5, ["the header says 1.25"]),
        (1.25, 5.0, 2.5, 5.0, ["the list of micrographs says 2.5", "the header says 1.25"]),
        (1.25, 1.25, 2.5, 1.25, ["the list of micrographs says 2.5"]),
        (1.25, None, 1.251, 1.251, []),
        (1.0, None, 1.77, 1.77, ["the header, as if it did not know, says 1"]),
        (1.0, 1.77, 1.77, 1.77, ["the header, as if it did not know, says 1"]),
        (1.0, 1.0, None, 1.0, []),
        (0.0, None, 1.77, 1.77, []),
    ],
)
def test_the_option_wins_over_the_list_and_the_list_over_the_header_and_what_disagrees_is_named(
    save: Callable[[str, bytes], Path],
    header: float,
    option: float | None,
    listed: float | None,
    chosen: float,
    warned: list[str],
) -> None:
    micrograph = read_micrograph(save("a.mrc", mrc_bytes(pixel=header)), option, listed)
    assert micrograph.pixel_size_A == pytest.approx(chosen)
    assert micrograph.warnings == tuple(f"using {chosen:g} Å per pixel; {text}" for text in warned)


@given(st.binary(min_size=1024, max_size=1024))
def test_no_header_makes_the_parser_fail_otherwise(head: bytes) -> None:
    try:
        header = parse_header(Path("a.mrc"), head)
    except FormatError:
        return
    assert 0 < header.data_bytes <= 2**32
    assert header.data_offset >= 1024


@given(st.integers(0, 239), st.binary(min_size=1, max_size=8))
def test_no_damage_to_a_header_makes_reading_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.mrc"
    data = mrc_bytes()
    path.write_bytes(data[:at] + damage + data[at + len(damage) :])
    with contextlib.suppress(MicrographError):
        assert np.isfinite(read_micrograph(path, 1.0).data).all()


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_no_damage_to_a_tiff_makes_reading_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, at: int, damage: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tif"
    tifffile.imwrite(path, IMAGE.astype(np.float32))
    data = path.read_bytes()
    path.write_bytes(data[:at] + damage + data[at + len(damage) :])
    with contextlib.suppress(MicrographError):
        assert np.isfinite(read_micrograph(path, 1.0).data).all()
