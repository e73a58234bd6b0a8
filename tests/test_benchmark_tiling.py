"""The parts of benchmarks/tiling.py: the slides it makes, what it asks for, who delivers which pixels, and its arithmetic. Nothing is timed here."""

import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from array_slides import planned_slide
from benchmark_modules import BENCHMARKS, imported, load, load_as_worker
from scipy import ndimage
from shapely import Polygon

import idx

cases, fleet, large, lattice, mosaic, recipes, summary, table = (
    load(f"tiling_peers.{name}") for name in ("cases", "fleet", "large", "lattice", "mosaic", "recipes", "summary", "table")
)
PROMISED = {
    "x_raw_decode",
    "speedup_openslide",
    "speedup_tiatoolbox",
    "speedup_openslide_aperio",
    "scaling_2_threads",
    "busy_share",
    "peak_gib_large",
}
TILE = mosaic.TILE_PX
ROWS, COLUMNS = 4, 5


def texture(height=600, width=700):
    """Coloured blots on the left, glass on the right."""
    noise = np.random.default_rng(3).normal(size=(height, width, 3))
    blots = np.clip(130 + 40 * 20 * ndimage.gaussian_filter(noise, (6, 6, 0)), 40, 210)
    blots[:, 450:] = 250
    return blots.astype(np.uint8)


def written(codec, folder):
    """A library, the order of its tiles, and the slide written of them."""
    library = mosaic.make_library(texture(), mosaic.CODECS[codec], n_tiles=7)
    index = mosaic.full_index(library, rows=ROWS, columns=COLUMNS)
    path = folder / f"{codec}.svs"
    mosaic.write_mosaic(path, library, index)
    return SimpleNamespace(codec=codec, library=library, index=index, path=path)


@pytest.fixture(scope="module", params=list(mosaic.CODECS))
def made(request, tmp_path_factory):
    return written(request.param, tmp_path_factory.mktemp("mosaics"))


def test_abbreviated_streams_hold_no_tables_and_need_those_that_were_split_off():
    stream = mosaic.CODECS["jpeg"].encode(texture()[:TILE, :TILE])
    tables, rest = mosaic.abbreviated(stream)
    assert b"JFIF" not in rest
    for marker in (b"\xff\xdb", b"\xff\xc4"):
        assert marker in tables
        assert marker not in rest[: rest.index(b"\xff\xda")]
    decoded = imagecodecs.jpeg8_decode(rest, tables=tables, colorspace=3, outcolorspace=2)
    np.testing.assert_array_equal(decoded, imagecodecs.jpeg8_decode(stream))
    with pytest.raises(imagecodecs.Jpeg8Error):
        imagecodecs.jpeg8_decode(rest)


def test_a_mosaic_stores_the_librarys_tiles_as_scanners_do(made):
    with tifffile.TiffFile(made.path) as tiff:
        page = tiff.pages.first
        assert tiff.is_svs
        assert page.compression == mosaic.CODECS[made.codec].compression
        assert page.tile == (TILE, TILE)
        assert (page.jpegtables is not None) == (made.codec == "jpeg")
        if made.codec == "jpeg":
            assert (page.photometric.name, page.subsampling) == ("YCBCR", (2, 2))
        stored = []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            tiff.filehandle.seek(offset)
            stored.append(tiff.filehandle.read(count))
    assert stored == [made.library.streams[number] for number in made.index.flat]
    assert 0 not in made.index


def test_a_mosaic_is_a_slide_of_known_scale_to_openslide_and_idx(made):
    with openslide.OpenSlide(made.path) as theirs, idx.open_slide(made.path) as ours:
        assert float(theirs.properties["openslide.mpp-x"]) == ours.mpp[0] == mosaic.MPP
        assert theirs.level_dimensions == tuple((level.width_px, level.height_px) for level in ours.levels) == ((COLUMNS * TILE, ROWS * TILE), (320, 256))
        for level, (width, height) in enumerate(theirs.level_dimensions):
            region = np.asarray(theirs.read_region((0, 0), level, (width, height)).convert("RGB"))
            difference = np.abs(region.astype(int) - ours.read_region(0, 0, width_px=width, height_px=height, level=level))
            assert difference.max() <= (0 if made.codec == "jpeg" else 1)


def test_lower_levels_are_the_upper_ones_averaged(made):
    with idx.open_slide(made.path) as slide:
        fine = slide.read_region(0, 0, width_px=COLUMNS * TILE, height_px=ROWS * TILE)
        coarse = slide.read_region(0, 0, width_px=COLUMNS * TILE // 4, height_px=ROWS * TILE // 4, level=1)
    assert np.abs(mosaic.averaged(fine, 4).astype(int) - coarse).mean() < 9
    assert np.abs(mosaic.averaged(fine, TILE).astype(int) - mosaic.averaged(coarse, TILE // 4)).max() <= 3


def test_border_tiles_are_cut_where_the_slide_ends(tmp_path):
    library = mosaic.make_library(texture(), mosaic.CODECS["jpeg"], n_tiles=3)
    mosaic.write_mosaic(tmp_path / "cut.svs", library, mosaic.full_index(library, rows=2, columns=3), size_px=(700, 300))
    with idx.open_slide(tmp_path / "cut.svs") as slide:
        assert slide.size_px == (700, 300)


def test_dense_libraries_are_of_tissue_and_others_of_all_there_is():
    def paleness(share):
        return [float((tile > 215).mean()) for tile in mosaic.cut_tiles(texture(), 40, np.random.default_rng(0), tissue_share=share)]

    assert max(paleness(0.8)) <= 0.2
    assert max(paleness(0.0)) > 0.5
    with pytest.raises(ValueError, match=r"must hold 256 px windows of tissue share 0\.8"):
        mosaic.window_corners(np.full((300, 300, 3), 250, np.uint8), tissue_share=0.8)


def test_a_lattice_holds_whole_tiles_row_by_row():
    found = lattice.lattice_over((1000, 700), tile_px=256, offset_px=100, own_mpp=0.499)
    assert (found.columns, found.rows, found.step_px) == (3, 2, 256.0)
    assert found.corners() == [(100, 100), (356, 100), (612, 100), (100, 356), (356, 356), (612, 356)]
    assert lattice.lattice_over((1024, 1024), own_mpp=0.5, most_tiles=9).rows == 2
    with pytest.raises(ValueError, match="must hold a tile"):
        lattice.lattice_over((200, 700), own_mpp=0.5)


def test_a_scale_within_two_percent_is_level_0_and_another_is_not():
    near = lattice.lattice_over((5000, 5000), mpp=0.5, own_mpp=0.499)
    assert (near.step_px, near.mpp) == (256.0, 0.5)
    far = lattice.lattice_over((5000, 5000), mpp=1.0, own_mpp=0.499)
    assert far.step_px == pytest.approx(256 / 0.499)
    assert far.corners()[1] == (513, 0)
    assert far.columns == 9


def workers_here(monkeypatch):
    """The workers that need no environment of their own: name, peer, and what answers for it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for name, kind, arguments in (
        ("raw", "Raw", []),
        ("openslide", "OpenSlide", []),
        ("tifffile_zarr", "TifffileZarr", []),
        ("idx", "Idx", ["run"]),
        ("idx", "Idx", ["stream"]),
        ("idx", "Idx", ["read_tiles"]),
    ):
        monkeypatch.setattr(sys, "argv", ["serve.py", *arguments])
        module = load_as_worker("tiling_peers", f"serve_{name}")
        yield " ".join([name, *arguments]), getattr(module, kind)(), module.serve.__globals__["answer"]


@pytest.mark.parametrize(("offset_px", "tile_px"), [(0, 256), (300, 256), (0, 128)])
def test_whoever_is_here_delivers_the_same_pixels(offset_px, tile_px, monkeypatch, tmp_path):
    made = written("jpeg", tmp_path)
    wanted = lattice.lattice_over((COLUMNS * TILE, ROWS * TILE), tile_px=tile_px, offset_px=offset_px, mpp=0.5 if offset_px else None, own_mpp=mosaic.MPP)
    delivered = {}
    for name, peer, answer in workers_here(monkeypatch):
        path = tmp_path / f"{name}.npy"
        answer(peer, {"slide": str(made.path), "lattice": asdict(wanted), "passes": 1, "pixels": str(path)})
        delivered[name] = np.load(path)
        timed = answer(peer, {"slide": str(made.path), "lattice": asdict(wanted), "passes": 2, "pixels": None})
        assert timed["wall_s"] > 0
    assert len(delivered) == 6
    for pixels in delivered.values():
        assert pixels.shape == (len(wanted), tile_px, tile_px, 3)
        np.testing.assert_array_equal(pixels, delivered["openslide"])


def test_a_peer_that_delivers_something_else_fails(tmp_path):
    delivering = load_as_worker("tiling_peers", "delivering")

    class Peer(delivering.Peer):
        def open(self, path, wanted):
            return lambda x, y: np.zeros((TILE, TILE, 4), np.uint8)

    request = {"slide": "s", "lattice": asdict(lattice.lattice_over((256, 256), own_mpp=0.5)), "passes": 1, "pixels": str(tmp_path / "p.npy")}
    with pytest.raises(ValueError, match="a tile must be uint8"):
        delivering.answer(Peer(), request)


def test_slides_are_opened_anew_for_each_pass(tmp_path):
    delivering = load_as_worker("tiling_peers", "delivering")
    log = []

    class Peer(delivering.Peer):
        def open(self, path, wanted):
            log.append("open")
            return lambda x, y: log.append((x, y))

    wanted = lattice.lattice_over((512, 256), own_mpp=0.5)
    delivering.answer(Peer(), {"slide": "s", "lattice": asdict(wanted), "passes": 2, "pixels": None})
    assert log == ["open", (0, 0), (256, 0)] * 2


def test_memory_for_jpeg_is_off_the_addresses_that_are_stored_past_the_cache():
    memory_for_jpeg = load_as_worker("tiling_peers", "delivering").memory_for_jpeg
    assert {memory_for_jpeg((7, n, 3)).ctypes.data % 32 for n in range(1, 40)} == {16}
    assert memory_for_jpeg((7, 5, 3)).shape == (7, 5, 3)


def test_every_tile_that_is_planned_on_the_large_slide_is_tissue():
    size_px = (12_000, 10_000)
    outlines = large.tissue_outlines(size_px)
    assert 0.4 < sum(Polygon(outline).area for outline in outlines) / np.prod(size_px) < 0.6
    library = SimpleNamespace(streams=[b""] * 11)
    index = cases.tissue_index(library, outlines, size_px)
    slide = planned_slide(*size_px, mpp=mosaic.MPP)
    within = idx.Contours.from_polygons([Polygon(slide.to_um(outline)) for outline in outlines])
    grid = idx.tiling.plan(slide, size_px=TILE, mpp=0.5, within=within)
    assert (index[grid.row, grid.column] > 0).all()
    # The other way round but for tiles that an outline only touches.
    assert len(grid) > 0.98 * np.count_nonzero(index)
    assert np.count_nonzero(index) < 0.75 * index.size


def test_the_large_slide_is_not_begun_without_room_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "LIBRARY_TILES", 9)
    monkeypatch.setattr(cases.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    reason = cases.make_large(cases.Made(tmp_path, texture()), (2000, 1500))
    assert "needs" in reason
    assert list(tmp_path.iterdir()) == []


def test_a_large_slide_in_small_streams_through_its_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "LIBRARY_TILES", 9)
    path = cases.make_large(cases.Made(tmp_path, texture()), (3000, 2000))
    answers = {}
    for entry, offset_px in (("stream", 0), ("run", 0), ("run", 100)):
        monkeypatch.setattr(sys, "argv", ["serve_idx_large.py", entry])
        answers[entry, offset_px] = load_as_worker("tiling_peers", "serve_idx_large").answer({"slide": str(path), "offset_px": offset_px})
    streamed, run, across = answers.values()
    assert 0 < streamed["n_tiles"] == run["n_tiles"] < streamed["n_lattice"]
    assert streamed["sum"] == pytest.approx(run["sum"], rel=1e-4)
    assert across["sum"] != run["sum"]
    assert len(streamed["at_s"]) == len(streamed["resident_bytes"]) >= 1


def test_mosaics_are_made_of_a_phantom_where_no_slide_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "PHANTOM_PX", 1024)
    pixels = cases.read_texture(None, tmp_path)
    assert pixels.shape == (1024, 1024, 3)
    assert pixels.std() > 5


def test_cases_ask_for_what_their_names_say(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "JPEG2000_TILES_PER_ROUND", 4)
    made = cases.Made(tmp_path, texture(), most_tiles=6)
    found = {name: cases.make_case(name, made, aperio=made.mosaic("mosaic", "jpeg"), jpeg2000=None) for name in cases.CASES}
    assert found.pop("jpeg2000 file") == "not run: no JPEG 2000 slide was given"
    assert cases.make_case("aperio", made, aperio=None, jpeg2000=None) == "not run: no Aperio slide was given"
    assert found["mosaic"].lattice.corners()[0] == (0, 0)
    assert found["mosaic unaligned"].lattice.corners()[0] == (100, 100)
    assert [found[name].threads for name in ("mosaic", "mosaic 0.5 mpp")] == [(1, 2), (1,)]
    assert [found[name].tolerance for name in ("mosaic", "mosaic 0.5 mpp", "mosaic 1 mpp", "jpeg2000 rgb")] == [0, 0, None, 1]
    assert "raw" in found["mosaic 0.5 mpp"].contenders
    assert not {"raw", "pyvips"} & set(found["mosaic 1 mpp"].contenders)
    assert found["dense"].slide != found["mosaic"].slide == found["aperio"].slide
    assert all(case.passes * len(case.lattice) >= 3 for case in found.values())


class PretendedWorker:
    """Writes pixels and takes a time that grows with every call of the fleet."""

    def __init__(self, name, log, offset=0, fails_at=None):
        self.name, self.log, self.offset, self.fails_at, self.calls = name, log, offset, fails_at, 0

    def ask(self, *, pixels, lattice, **_):
        self.calls += 1
        if self.calls == self.fails_at:
            raise fleet.PeerFailure(f"{self.name} must stay alive")
        if pixels:
            np.save(pixels, np.full((lattice["columns"] * lattice["rows"], 2, 2, 3), 100 + self.offset, np.uint8))
            return {}
        self.log.append(self.name)
        return {"cpu_s": float(len(self.log)), "wall_s": 1.0, "others_s": 0.0, "peak_bytes": 5}


def measured(tmp_path, rounds=3, tolerance=0, **workers):
    log = []
    pretended = {name: PretendedWorker(name, log, **options) for name, options in workers.items()}
    case = cases.Case("mosaic", tmp_path / "s.svs", lattice.lattice_over((600, 300), own_mpp=0.5), tolerance=tolerance)
    found = fleet.measure(case, list(pretended), SimpleNamespace(worker=lambda name, threads: pretended[name]), tmp_path, rounds=rounds)
    return {each.contender: each for each in found}, log


def test_contenders_take_turns_and_another_one_begins_each_round(tmp_path):
    found, log = measured(tmp_path, idx={}, openslide={}, raw={})
    assert log == ["openslide", "raw", "idx", "raw", "idx", "openslide", "idx", "openslide", "raw"]
    assert found["idx"].cpu_s == [3.0, 5.0, 7.0]
    assert found["idx"].ms_per_tile("cpu")[0] == 1500.0  # two tiles


def test_wrong_pixels_void_a_series_of_those_that_must_be_equal(tmp_path):
    found, _ = measured(tmp_path, idx={"offset": 1}, openslide={}, pyvips={"offset": 3})
    assert found["idx"].error.startswith(fleet.INEXACT)
    assert found["idx"].cpu_s == []
    assert found["pyvips"].error is None
    assert found["pyvips"].pixels == {"reference": "openslide", "is_identical": False, "max_difference": 3, "mean_difference": 3.0}
    found, _ = measured(tmp_path, tolerance=1, idx={"offset": 1}, openslide={})
    assert found["idx"].error is None


def test_a_peer_that_dies_keeps_its_reason_and_the_others_go_on(tmp_path):
    found, _ = measured(tmp_path, idx={}, openslide={}, pyvips={"fails_at": 3})
    assert found["pyvips"].error == "pyvips must stay alive"
    assert len(found["idx"].cpu_s) == 3


def test_a_missing_environment_of_tiatoolbox_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("IDX_TIATOOLBOX_VENV", str(tmp_path))
    with fleet.Fleet(tmp_path, timeout_s=1.0) as ships:
        with pytest.raises(fleet.PeerFailure, match="make test-tiatoolbox"):
            ships.worker("tiatoolbox", 1)
        assert "make test-tiatoolbox" in ships.facts["tiatoolbox"]["error"]


def series(contender, case="mosaic", threads=1, cpu_s=(1.0, 1.0, 1.0), wall_s=None, n_tiles=10):
    wall_s = list(wall_s or cpu_s)
    return summary.Series(contender, case, threads, n_tiles, cpu_s=list(cpu_s), wall_s=wall_s, others_s=[0.0] * len(wall_s))


def everything():
    """A series for each ratio, idx at 2 s, the n-th peer at n + 10 s."""
    found = {}
    for ratio in summary.RATIOS.values():
        for contender, threads in (ratio.over, ratio.under):
            key = (ratio.case, contender, threads)
            found.setdefault(key, series(contender, ratio.case, threads, cpu_s=[2.0 if contender == "idx" else len(found) + 10.0], wall_s=[8.0 / threads]))
    return found


def test_the_summary_takes_each_ratio_from_its_own_case_contender_and_threads():
    found = everything()
    decoys = [series("idx", "elsewhere", cpu_s=[99.0]), series("idx", "mosaic", 3, cpu_s=[99.0]), series("idx read_tiles", cpu_s=[99.0])]
    overlap = {at: {"busy_share": {"median": 0.9 + k / 100, "lowest": 0.5, "highest": 1.0}} for k, at in enumerate(summary.OVERLAPS.values())}
    watched = {"stream": {"peak_gib": 1.0, "growth_gib": 0.0}, "run": {"peak_gib": 1.2, "growth_gib": 0.1}}
    values, reasons, spreads = summary.summarise([*decoys, *found.values()], overlap, watched)
    assert set(values) >= PROMISED
    assert reasons == {}
    assert values["x_raw_decode"] == 2.0 / found["mosaic", "raw", 1].cpu_s[0]
    assert values["speedup_openslide"] == found["mosaic", "openslide", 1].cpu_s[0] / 2.0
    assert values["speedup_tiatoolbox"] == found["mosaic 0.5 mpp", "tiatoolbox", 1].cpu_s[0] / 2.0
    assert values["speedup_openslide_aperio"] == found["aperio", "openslide", 1].cpu_s[0] / 2.0
    assert values["scaling_2_threads"] == 2.0
    assert values["busy_share"] == 0.9
    assert (values["peak_gib_large"], values["growth_gib_large"]) == (1.2, 0.1)
    assert spreads["busy_share"]["lowest"] == 0.5


def test_what_was_not_measured_is_null_with_its_reason():
    values, reasons, _ = summary.summarise([], {}, {})
    assert set(values.values()) == {None}
    assert set(reasons) == set(values) >= PROMISED
    found = everything()
    found["mosaic", "openslide", 1].error = "openslide must stay alive"
    values, reasons, _ = summary.summarise(
        list(found.values()), {"1:1": {"error": "no cores"}}, {"stream": {"peak_gib": 1.0, "growth_gib": 0}, "run": {"error": "killed"}}
    )
    assert values["speedup_openslide"] is None
    assert reasons["speedup_openslide"] == "openslide: openslide must stay alive"
    assert reasons["busy_share"] == "no cores"
    assert values["peak_gib_large"] is None
    assert reasons["peak_gib_large"] == "killed"
    assert values["x_raw_decode"] is not None


def test_ratios_are_paired_by_round():
    assert summary.paired([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == {"median": 3.0, "lowest": 2.0, "highest": 4.0}
    assert summary.paired([], []) is None
    assert series("raw", cpu_s=(0.1, 0.3, 0.2)).as_dict()["cpu_ms_per_tile"] == pytest.approx({"median": 20.0, "lowest": 10.0, "highest": 30.0})


def test_wall_times_are_compared_in_the_rounds_that_other_processes_left_alone():
    one, two = series("idx", wall_s=(2.0, 2.0, 2.0, 9.0), cpu_s=(1, 1, 1, 1)), series("idx", threads=2, wall_s=(1.0, 1.0, 1.0, 1.0), cpu_s=(1, 1, 1, 1))
    assert summary.ratio_of(one, two, "wall")["highest"] == 9.0
    one.others_s[3] = 5.0
    assert summary.ratio_of(one, two, "wall") == {"median": 2.0, "lowest": 2.0, "highest": 2.0}
    two.others_s[0] = 5.0  # too few are left
    assert summary.ratio_of(one, two, "wall")["highest"] == 9.0
    alone = {"decode_s": 1.0, "compute_s": 0.5, "run_s": 1.25, "others_share": 0.0}
    rounds = [alone] * 3 + [alone | {"compute_s": 2.0, "run_s": 9.0, "others_share": 0.8}]
    assert summary.busy_share(rounds) == {"median": 0.8, "lowest": 0.8, "highest": 0.8}
    assert summary.busy_share(rounds[3:])["median"] == pytest.approx(2 / 9)
    assert summary.busy_share([]) is None


def test_what_others_take_of_the_processors_is_seen():
    serving = load_as_worker("tiling_peers", "delivering").serving
    if not serving.STAT.exists():
        pytest.skip("the platform does not say")
    busy = "import time\nend = time.perf_counter() + 1\nwhile time.perf_counter() < end: pass"
    found = serving.timed(lambda: subprocess.run([sys.executable, "-c", busy], check=True))
    assert found.others_s > 0.2
    assert found.cpu_s < 0.5


def test_memory_that_keeps_rising_is_seen_and_a_warm_up_is_not_taken_for_it():
    at = np.arange(0, 60, 0.5)
    warming = np.where(at < 5, at / 5, 1.0) * 2**30
    flat = summary.memory_over_time(at, warming, peak_bytes=3 * 2**29)
    assert (flat["peak_gib"], flat["growth_gib"]) == (1.5, 0.0)
    assert abs(flat["slope_gib_per_min"]) < 1e-9
    rising = summary.memory_over_time(at, (1 + at / 60) * 2**30)
    assert rising["slope_gib_per_min"] == pytest.approx(1.0)
    assert 0.5 < rising["growth_gib"] < 0.7
    assert summary.memory_over_time([0.0], [2**30])["peak_gib"] == 1.0


def test_the_table_shows_ratios_pixels_and_reasons():
    slow, fast, gone = series("openslide", cpu_s=[6.0, 8.0]), series("idx", cpu_s=[1.0, 1.0]), series("cucim", cpu_s=[])
    slow.pixels, gone.error = {"reference": "openslide", "is_identical": True}, "cucim must install"
    lines = table.lines_of([slow, fast, gone])
    assert "7.00 (6.00 - 8.00)" in lines[1]
    assert lines[1].endswith("those of openslide")
    assert lines[3].endswith("cucim must install")
    shown = table.lines_of_summary({"a": 2.5, "b": None}, {"b": "not run"}, {"a": {"median": 2.5, "lowest": 2.0, "highest": 3.0}})
    assert shown[0].split() == ["a", "2.5", "2.50", "(2.00", "-", "3.00)"]
    assert shown[1].split(maxsplit=2) == ["b", "-", "not run"]


def test_the_network_gives_one_row_per_tile():
    import torch

    computing = load_as_worker("tiling_peers", "computing")
    batch = torch.zeros((3, TILE, TILE, 3), dtype=torch.uint8)
    assert computing.Network(2)(batch).shape == (3, computing.CHANNELS)
    assert len(computing.calibrated(1e-3, [batch]).blocks) >= 0


def test_what_runs_in_a_peers_environment_imports_nothing_of_idx():
    folder = BENCHMARKS / "tiling_peers"
    for path in folder.glob("serve_*.py"):
        assert ("idx" in imported(path)) == path.stem.startswith("serve_idx"), path.name
    assert imported(folder / "lattice.py") <= sys.stdlib_module_names
    assert imported(folder / "delivering.py") <= sys.stdlib_module_names | {"numpy", "serving", "lattice"}
    for contender in recipes.CONTENDERS.values():
        assert (folder / f"serve_{contender.script}.py").exists()


def test_ratios_name_contenders_and_cases_that_exist():
    for ratio in summary.RATIOS.values():
        assert ratio.case in cases.CASES
        assert {ratio.over[0], ratio.under[0]} <= set(recipes.CONTENDERS)


def test_quick_runs_less(monkeypatch, tmp_path):
    monkeypatch.setenv("IDX_REAL_DATA", str(tmp_path))
    tiling = load("tiling")
    quick, whole = tiling.arguments(["--quick"]), tiling.arguments([])
    assert "large" not in quick.parts
    assert "large" in whole.parts
    assert quick.rounds < whole.rounds
    assert quick.tiles < whole.tiles
    assert whole.aperio is None  # no sample lies there
    assert tuple(whole.large_size) == (120_000, 100_000)
