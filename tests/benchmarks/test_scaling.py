"""The benchmarks of cost: what is made of the figures, and that they are of the command alone."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of benchmarks/, which is no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield


@pytest.fixture
def common(benchmarks: None) -> ModuleType:
    """benchmarks/common.py."""
    import common

    return common


@pytest.fixture
def scaling(benchmarks: None) -> ModuleType:
    """benchmarks/scaling.py."""
    import scaling

    return scaling


@pytest.fixture
def peers(benchmarks: None) -> ModuleType:
    """benchmarks/peers.py."""
    import peers

    return peers


def test_peak_memory_is_that_of_the_command_and_not_of_the_benchmark(common: ModuleType) -> None:
    mine = np.ones(25_000_000)  # 200 MB, which a process that is started from here would inherit as its peak
    assert common.measure(["/bin/sh", "-c", ":"])["peak_MB"] < mine.nbytes / 2e6


def test_processor_time_is_that_of_all_processes_of_the_command(common: ModuleType) -> None:
    alone = common.measure(["/bin/sh", "-c", ":"])
    below = common.measure(["/bin/sh", "-c", f"{sys.executable} -c 'sum(range(10_000_000))'; :"])
    assert below["cpu_seconds"] > 5 * alone["cpu_seconds"]
    assert below["system_seconds"] <= below["cpu_seconds"]


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said(common: ModuleType) -> None:
    with pytest.raises(SystemExit, match="ended with 3: no such luck"):
        common.measure(["/bin/sh", "-c", "echo no such luck >&2; exit 3"])


def test_a_line_is_found_again_with_its_largest_deviation(scaling: ModuleType) -> None:
    from scaling_lines import line

    x = [10.0, 100.0, 1000.0, 10_000.0]
    found = line(x, [2 + 0.5 * value for value in x])
    assert found["constant"] == pytest.approx(2)
    assert found["slope"] == pytest.approx(0.5)
    assert found["largest_deviation"] == pytest.approx(0, abs=1e-9)
    assert line([1, 2], [1.0, 1.5], origin=True)["constant"] == 0
    assert line([1, 2, 3], [1.0, 2.0, 30.0])["largest_deviation"] > 0.1


def test_a_small_point_counts_as_much_for_the_line_as_a_large_one(scaling: ModuleType) -> None:
    from scaling_lines import line

    assert line([0.0, 1.0, 10_000.0], [1.0, 2.0, 10_500.0])["constant"] == pytest.approx(1, abs=0.1)


def test_the_cost_of_a_further_micrograph_is_without_the_start(scaling: ModuleType) -> None:
    few = {"seconds": 3.0, "cpu_seconds": 4.0, "system_seconds": 1.0, "peak_MB": 100.0, "picks": 5.0}
    many = {"seconds": 7.0, "cpu_seconds": 6.0, "system_seconds": 2.0, "peak_MB": 120.0, "picks": 6.0}
    found = scaling.difference(few, many, 4)
    assert found["seconds"] == 1
    assert found["cpu_seconds"] == 0.5
    assert found["micrographs_per_s"] == 1
    assert (found["peak_MB"], found["picks"]) == (120, 6)


@pytest.mark.parametrize("particles", [0, 1, 12, 5000])
def test_so_many_particles_are_drawn_and_none_over_the_border_or_another(scaling: ModuleType, particles: int) -> None:
    xy = np.reshape(scaling.places(np.random.default_rng(0), 4096, 4000, 40, particles), (-1, 2))
    assert len(xy) == particles
    assert ((xy >= 20) & (xy <= np.array([4096, 4000]) - 20)).all()
    distance = np.linalg.norm(xy[:200, None] - xy[None], axis=-1)
    assert (distance[distance > 0] > 40).all()


def test_links_stand_for_micrographs_and_are_read_as_they_were_meant(
    scaling: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt import read_micrograph

    monkeypatch.setattr(scaling, "LINKS", 2)
    files = sorted(scaling.fill(tmp_path / "in", 5, 200, 150, 20, 3).iterdir())
    assert [file.stat().st_nlink for file in files] == [2, 2, 2, 2, 1]
    micrograph = read_micrograph(files[3])
    assert micrograph.data.shape == (150, 200)
    assert micrograph.pixel_size_A == pytest.approx(scaling.PIXEL_SIZE_A)


def test_costs_per_micrograph_and_their_ratio_are_of_medians(peers: ModuleType) -> None:
    def rounds(*further: float) -> list[dict[int, dict[str, float]]]:
        few, many = peers.COUNTS
        return [
            {
                count: {**dict.fromkeys(peers.COSTS, 2 + each * (count - few)), "peak_MB": 10.0 * count}
                for count in (few, many)
            }
            for each in further
        ]

    figures = {peers.OURS: peers.per_micrograph(rounds(0.5, 0.4, 9)), "other": peers.per_micrograph(rounds(10, 8, 11))}
    assert figures[peers.OURS]["further_seconds"] == pytest.approx({"median": 0.5, "least": 0.4, "most": 9})
    assert figures["other"]["peak_MB"] == 10 * max(peers.COUNTS)
    assert peers.times_ours(figures, "further_seconds") == pytest.approx({"other": 20})


def test_topaz_is_given_all_cores_and_takes_what_it_has_binned(peers: ModuleType, tmp_path: Path) -> None:
    topaz = peers.programs(Path("VENV"), tmp_path, None)[1]
    preprocess, extract = topaz.commands([Path("a.mrc"), Path("b.mrc")])
    assert f"--num-threads={peers.CORES}" in preprocess
    assert f"--num-threads={peers.CORES}" in extract
    assert [Path(word).name for word in extract[-2:]] == ["a.mrc", "b.mrc"]
    assert f"--destdir={Path(extract[-1]).parent}/" in preprocess


def test_no_folder_of_this_machine_is_shown_in_a_command(peers: ModuleType) -> None:
    shown = peers.shown(["/opt/venv/bin/topaz", "extract", "--output=/tmp/x/picks.txt", "--scale=3", "/data/a.mrc"])
    assert shown == "topaz extract --output=picks.txt --scale=3 a.mrc"
