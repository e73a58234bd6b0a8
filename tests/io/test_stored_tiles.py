"""Stored tiles delivered as requested ones: once each, in place, by any number of threads."""

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idx.errors import PixelAccessError
from idx.io.slides_tiles import ReadOnlyFile, TileLayout
from idx.io.stored_tiles import StoredTiles
from idx.io.tile_cache import TileCache, TileMemory
from idx.slide import TileRect

TILE = (16, 12)


class Counted:
    """Uncompressed stored tiles in a file of its own, counting what is decoded."""

    def __init__(self, path, pixels, *, tile=TILE, missing=(), broken=(), capacity=1 << 20, n_bytes=None):
        width, height = tile
        rows, columns = -(-pixels.shape[0] // height), -(-pixels.shape[1] // width)
        padded = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        blocks = [padded[y * height : (y + 1) * height, x * width : (x + 1) * width].tobytes() for y in range(rows) for x in range(columns)]
        path.write_bytes(b"".join(blocks))
        counts = np.full(len(blocks), width * height * 3)
        counts[list(missing)] = 0
        self.layout = TileLayout(pixels.shape[1], pixels.shape[0], width, height, np.arange(len(blocks)) * width * height * 3, counts)
        self.cache = TileCache(capacity)
        self.decoded, self.lock, self.broken = [], threading.Lock(), set(broken)
        self.shape = (height, width, 3)
        self.stored = StoredTiles([self.layout], [ReadOnlyFile(path)], [self.decode], cache=self.cache)

    def decode(self, block, number, out):
        with self.lock:
            self.decoded.append(number)
        if number in self.broken:
            raise ValueError("garbage")
        out[...] = np.frombuffer(block, dtype=np.uint8).reshape(self.shape)
        return out

    def read(self, *rects):
        batch = np.full((len(rects), rects[0][3], rects[0][2], 3), 7, dtype=np.uint8)
        self.stored.fill(batch, [TileRect(0, *rect) for rect in rects])
        return batch


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def cut(pixels, x, y, width, height):
    framed = np.full((pixels.shape[0] + 400, pixels.shape[1] + 400, 3), 255, dtype=np.uint8)
    framed[200 : 200 + pixels.shape[0], 200 : 200 + pixels.shape[1]] = pixels
    return framed[200 + y : 200 + y + height, 200 + x : 200 + x + width]


@given(
    x=st.integers(-30, 90), y=st.integers(-30, 70), width=st.integers(1, 60), height=st.integers(1, 50), step=st.integers(1, 40), capacity=st.integers(0, 4000)
)
@settings(max_examples=60, deadline=None)
def test_any_rectangle_is_what_the_level_holds(tmp_path_factory, x, y, width, height, step, capacity):
    pixels = noise(55, 70)
    counted = Counted(tmp_path_factory.mktemp("s") / "a", pixels, capacity=capacity)
    rects = [(x + dx, y + dy, width, height) for dy in (0, step) for dx in (0, step)]
    for found, rect in zip(counted.read(*rects), rects, strict=True):
        np.testing.assert_array_equal(found, cut(pixels, *rect))
    assert counted.cache.n_bytes <= capacity


def test_each_stored_tile_is_decoded_once_across_calls_and_threads(tmp_path):
    pixels = noise(120, 160)
    counted = Counted(tmp_path / "a", pixels)
    rects = [(x, y, 20, 20) for y in range(-5, 120, 17) for x in range(-5, 160, 17)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(counted.read, rects))
    assert sorted(counted.decoded) == list(range(10 * 10))
    for tile, rect in zip(found, rects, strict=True):
        np.testing.assert_array_equal(tile[0], cut(pixels, *rect))


def test_tiles_asked_for_as_they_are_stored_are_not_kept(tmp_path):
    pixels = noise(60, 64)
    counted = Counted(tmp_path / "a", pixels)
    counted.read(*[(x, y, 16, 12) for y in range(0, 60, 12) for x in range(0, 64, 16)])
    assert counted.cache.n_bytes == 0
    assert len(counted.decoded) == 20


def test_without_room_tiles_are_decoded_again_and_still_right(tmp_path):
    pixels = noise(60, 64)
    counted = Counted(tmp_path / "a", pixels, capacity=0)
    for _ in range(2):
        np.testing.assert_array_equal(counted.read((3, 5, 30, 30))[0], cut(pixels, 3, 5, 30, 30))
    assert len(counted.decoded) == 2 * 9


def test_a_tile_that_is_not_stored_is_white(tmp_path):
    pixels = noise(24, 32)
    counted = Counted(tmp_path / "a", pixels, missing=[1])
    expected = pixels.copy()
    expected[:12, 16:] = 255
    np.testing.assert_array_equal(counted.read((0, 0, 32, 24))[0], expected)
    np.testing.assert_array_equal(counted.read((16, 0, 16, 12))[0], expected[:12, 16:])


def test_a_damaged_tile_is_told_to_every_thread_and_not_kept(tmp_path):
    pixels = noise(24, 32)
    counted = Counted(tmp_path / "a", pixels, broken=[0])

    def attempt(_):
        with pytest.raises(PixelAccessError, match=r"garbage \(level 0, tile 0, .*a\)"):
            counted.read((2, 2, 8, 8))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, range(8)))
    np.testing.assert_array_equal(counted.read((18, 2, 8, 8))[0], pixels[2:10, 18:26])
    counted.broken.clear()
    np.testing.assert_array_equal(counted.read((2, 2, 8, 8))[0], pixels[2:10, 2:10])


def test_a_closed_slide_keeps_nothing(tmp_path):
    counted = Counted(tmp_path / "a", noise(24, 32))
    counted.read((2, 2, 28, 20))
    assert counted.cache.n_bytes == 4 * 16 * 12 * 3
    counted.stored.close()
    assert counted.cache.n_bytes == 0
    with pytest.raises(PixelAccessError, match="slide must be open"):
        counted.read((2, 2, 28, 20))


def test_a_stored_tile_that_is_too_small_is_damaged(tmp_path):
    counted = Counted(tmp_path / "a", noise(24, 32))
    counted.stored.decoders = (lambda block, number, out: out[:5],)
    with pytest.raises(PixelAccessError, match="16 x 5 px instead of 16 x 12"):
        counted.read((0, 0, 16, 12))


@pytest.mark.parametrize("how", ["rewritten", "replaced", "removed"])
def test_another_file_in_its_place_is_refused(tmp_path, how):
    path = tmp_path / "a"
    counted = Counted(path, noise(24, 32))
    if how == "rewritten":
        with path.open("r+b") as stream:
            stream.write(b"12345")
        os.utime(path, ns=(1, 1))
    elif how == "replaced":
        (tmp_path / "b").write_bytes(path.read_bytes())
        os.replace(tmp_path / "b", path)
    else:
        path.unlink()
    with pytest.raises(PixelAccessError, match=r"must stay as it was while it is open.*Open it again"):
        counted.read((2, 2, 8, 8))


def test_memory_that_a_decoder_owns_is_never_written_to(tmp_path):
    """Uncompressed DICOM frames are read-only views of the file's bytes."""
    counted = Counted(tmp_path / "a", noise(24, 32), capacity=0)
    frozen = np.zeros(counted.shape, dtype=np.uint8)
    frozen.flags.writeable = False
    counted.stored.decoders = (lambda block, number, out: frozen,)
    for _ in range(3):
        counted.read((2, 2, 8, 8))
    assert counted.cache.memory.take(counted.shape).flags.writeable


def test_spare_memory_is_bounded_and_belongs_to_the_tiles_of_today():
    memory = TileMemory(spare_bytes=8 << 20)
    old = [memory.take((256, 256, 3)) for _ in range(40)]
    for tile in old:
        memory.give_back(tile)
    assert memory._n_bytes <= 8 << 20
    new = [memory.take((240, 240, 3)) for _ in range(40)]
    for tile in new:
        memory.give_back(tile)
    assert memory._n_bytes <= 8 << 20
    assert set(memory._spare) == {(240, 240, 3)}
    assert memory.take((240, 240, 3)).shape == (240, 240, 3)


def test_a_slide_keeps_what_its_rows_need_and_gives_way_to_others(tmp_path):
    cache = TileCache(capacity_bytes=20_000)
    slides = [Counted(tmp_path / name, noise(120, 160), capacity=0) for name in "ab"]
    for slide in slides:
        slide.stored._cache = cache
        slide.read((3, 3, 150, 100))
    assert cache.n_bytes <= 20_000
    assert not cache.holds(slides[0].stored._number, (0, 0))
    assert cache.holds(slides[1].stored._number, (0, 80))


def test_tiles_that_lie_together_are_read_together(tmp_path, monkeypatch):
    pixels = noise(60, 64)
    counted = Counted(tmp_path / "a", pixels)
    reads, read = [], counted.stored.files[0].read
    monkeypatch.setattr(counted.stored.files[0], "read", lambda offset, n_bytes: reads.append((offset, n_bytes)) or read(offset, n_bytes))
    np.testing.assert_array_equal(counted.read((0, 0, 64, 60))[0], pixels)
    assert reads == [(0, 20 * 16 * 12 * 3)]
    counted.stored._cache.forget(counted.stored._number)
    reads.clear()
    counted.layout.offsets[10:] += 100_000  # too far to be read over
    with pytest.raises(PixelAccessError, match="cut off"):
        counted.read((0, 0, 64, 60))
    assert reads[0] == (0, 10 * 16 * 12 * 3)


@pytest.mark.parametrize("shape", [(240, 240, 3), (256, 256, 3), (512, 512, 3)])
def test_rows_of_tiles_never_begin_where_vectors_do(shape):
    """Decoders would write them past the processor's cache."""
    memory = TileMemory()
    for tile in [memory.take(shape) for _ in range(5)]:
        rows = tile.ctypes.data + tile.strides[0] * np.arange(shape[0])
        assert (rows % 16 == 8).all()


def test_a_closed_slide_delivers_nothing_that_it_kept(tmp_path):
    """A thread that was reading may have put its tiles into the cache after it was emptied."""
    pixels = noise(24, 32)
    counted = Counted(tmp_path / "a", pixels)
    counted.read((2, 2, 28, 20))
    for file in counted.stored.files:
        file.close()
    with pytest.raises(PixelAccessError, match="slide must be open"):
        counted.read((2, 2, 28, 20))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux lists the open files of a process")
def test_files_of_slides_that_nobody_closes_are_closed_with_them(tmp_path):
    gc.collect()  # of what other tests left
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        Counted(tmp_path / "a", noise(24, 32)).read((2, 2, 8, 8))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_drive_that_gives_less_than_was_asked_for_is_asked_again_and_one_that_fails_is_named(tmp_path, monkeypatch):
    pixels = noise(24, 32)
    counted = Counted(tmp_path / "a", pixels)
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, count, offset: whole(descriptor, min(count, 100), offset))
    np.testing.assert_array_equal(counted.read((0, 0, 32, 24))[0], pixels)

    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fails)
    with pytest.raises(PixelAccessError, match=r"file must be readable; got: .*Input/output error.*a\)\. Check the drive"):
        Counted(tmp_path / "a", pixels).read((0, 0, 32, 24))
