"""What is made of the figures of other programs, and how these are called."""

from pathlib import Path

import pytest

from benchmarks.speed import peers


def test_costs_per_micrograph_and_their_ratio_are_of_medians() -> None:
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


def test_topaz_is_given_all_cores_and_takes_what_it_has_binned(tmp_path: Path) -> None:
    topaz = peers.programs(Path("VENV"), tmp_path, None)[1]
    preprocess, extract = topaz.commands([Path("a.mrc"), Path("b.mrc")])
    assert f"--num-threads={peers.CORES}" in preprocess
    assert f"--num-threads={peers.CORES}" in extract
    assert [Path(word).name for word in extract[-2:]] == ["a.mrc", "b.mrc"]
    assert f"--destdir={Path(extract[-1]).parent}/" in preprocess


def test_no_folder_of_this_machine_is_shown_in_a_command() -> None:
    shown = peers.shown(["/opt/venv/bin/topaz", "extract", "--output=/tmp/x/picks.txt", "--scale=3", "/data/a.mrc"])
    assert shown == "topaz extract --output=picks.txt --scale=3 a.mrc"
