"""The lines of cost, and the micrographs that they are measured on."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import scaling
from benchmarks.speed.scaling_lines import line


def test_a_line_is_found_again_with_its_largest_deviation() -> None:
    x = [10.0, 100.0, 1000.0, 10_000.0]
    found = line(x, [2 + 0.5 * value for value in x])
    assert found["constant"] == pytest.approx(2)
    assert found["slope"] == pytest.approx(0.5)
    assert found["largest_deviation"] == pytest.approx(0, abs=1e-9)
    assert line([1, 2], [1.0, 1.5], origin=True)["constant"] == 0
    assert line([1, 2, 3], [1.0, 2.0, 30.0])["largest_deviation"] > 0.1


def test_a_small_point_counts_as_much_for_the_line_as_a_large_one() -> None:
    assert line([0.0, 1.0, 10_000.0], [1.0, 2.0, 10_500.0])["constant"] == pytest.approx(1, abs=0.1)


def test_the_cost_of_a_further_micrograph_is_without_the_start() -> None:
    few = {"seconds": 3.0, "cpu_seconds": 4.0, "system_seconds": 1.0, "peak_MB": 100.0, "picks": 5.0}
    many = {"seconds": 7.0, "cpu_seconds": 6.0, "system_seconds": 2.0, "peak_MB": 120.0, "picks": 6.0}
    found = scaling.difference(few, many, 4)
    assert found["seconds"] == 1
    assert found["cpu_seconds"] == 0.5
    assert found["micrographs_per_s"] == 1
    assert (found["peak_MB"], found["picks"]) == (120, 6)


@pytest.mark.parametrize("particles", [0, 1, 12, 5000])
def test_so_many_particles_are_drawn_and_none_over_the_border_or_another(particles: int) -> None:
    xy = np.reshape(scaling.places(np.random.default_rng(0), 4096, 4000, 40, particles), (-1, 2))
    assert len(xy) == particles
    assert ((xy >= 20) & (xy <= np.array([4096, 4000]) - 20)).all()
    distance = np.linalg.norm(xy[:200, None] - xy[None], axis=-1)
    assert (distance[distance > 0] > 40).all()


def test_links_stand_for_micrographs_and_are_read_as_they_were_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtpick_rt import read_micrograph

    monkeypatch.setattr(scaling, "LINKS", 2)
    files = sorted(scaling.fill(tmp_path / "in", 5, 200, 150, 20, 3).iterdir())
    assert [file.stat().st_nlink for file in files] == [2, 2, 2, 2, 1]
    micrograph = read_micrograph(files[3])
    assert micrograph.data.shape == (150, 200)
    assert micrograph.pixel_size_A == pytest.approx(scaling.PIXEL_SIZE_A)
