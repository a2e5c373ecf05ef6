"""The simulated suite, and the comparison on it: what is in it, that it is frozen, and who is
given what."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.accuracy import comparison_shown, suite, suite_files, topaz, topaz_comparison
from gtpick_model.simulator.structures import held_out
from gtpick_rt import Picks
from gtpick_rt.reading.micrographs import read_micrograph


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A suite of two sizes, on micrographs as small as can be."""
    specimens = {"small": ("procedural-lobes-1085",), "large": ("procedural-ring-1015", "4v7r")}
    monkeypatch.setattr(suite, "SPECIMENS", specimens)
    monkeypatch.setattr(topaz_comparison, "SPECIMENS", specimens)
    monkeypatch.setattr(comparison_shown, "SPECIMENS", specimens)
    monkeypatch.setitem(suite.SHAPE, "small", (90, 130))
    monkeypatch.setitem(suite.SHAPE, "large", (110, 170))
    monkeypatch.setattr(suite, "EXTENT_PX", {"small": 16, "large": 24})
    monkeypatch.setattr(suite, "SIDE", 24)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picks(xy: list[tuple[float, float]], score: list[float]) -> Picks:
    """Picks with scores."""
    return Picks(np.array(xy, np.float32).reshape(-1, 2), np.ones(len(xy), np.float32), np.array(score, np.float32))


def test_the_suite_names_only_structures_that_training_holds_out() -> None:
    names = [name for size in suite.SPECIMENS.values() for name in size]
    assert len(names) == len(set(names)) == 9
    assert all(held_out(name) for name in names)


@pytest.mark.usefixtures("small")
def test_a_structure_that_training_sees_is_refused() -> None:
    seen = next(f"procedural-chain-{i}" for i in range(0, 600, 6) if not held_out(f"procedural-chain-{i}"))
    with pytest.raises(SystemExit, match=f"not held out.*{seen}"):
        suite.structures([seen], None)


@pytest.mark.usefixtures("small")
def test_every_size_meets_every_snr_and_no_two_micrographs_share_a_seed_or_a_name() -> None:
    plans = suite.plan()
    full = [p for p in plans if not p.empty]
    assert {(p.structure, p.snr) for p in full} == {
        (name, snr) for names in suite.SPECIMENS.values() for name in names for snr in suite.SNR
    }
    assert {p.empty for p in plans} == {"", *suite.EMPTIES}
    assert len({(p.number, p.seed) for p in plans}) == len({p.file for p in plans}) == len(plans)


@pytest.mark.usefixtures("small")
def test_micrographs_are_true_to_the_list_and_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = suite.write_suite(tmp_path / "a", None)
    assert "4v7r: left out; it needs --structures" in capsys.readouterr().err
    assert suite.write_suite(tmp_path / "b", None).sha256 == first.sha256
    loaded = suite_files.load_suite(tmp_path / "a")
    assert loaded.entries == first.entries
    assert loaded.sha256 == json.loads((tmp_path / "a" / "suite.json").read_text())["sha256"]
    counts = []
    for entry in loaded.entries:
        micrograph, labels = read_micrograph(loaded.path(entry)), loaded.labels(entry)
        assert micrograph.data.shape == suite.SHAPE[entry.size]
        assert micrograph.pixel_size_A == pytest.approx(entry.pixel_size_A, rel=1e-5)
        assert entry.diameter_px == pytest.approx(suite.EXTENT_PX[entry.size])
        assert len(labels) == entry.particles
        height, width = micrograph.data.shape
        reach = entry.diameter_px / 2 - 0.51
        assert ((labels.xy_px >= reach) & (labels.xy_px <= (width - 1 - reach, height - 1 - reach))).all()
        counts.append((entry.empty, entry.particles))
    assert all(particles == 0 for empty, particles in counts if empty)
    assert sum(particles for _, particles in counts) > 30


@pytest.mark.usefixtures("small")
def test_a_suite_with_a_changed_label_or_micrograph_is_refused(tmp_path: Path) -> None:
    written = suite.write_suite(tmp_path, None)
    star = written.path(written.entries[0]).with_suffix(".star")
    kept = star.read_text()
    star.write_text(kept + "1.00 2.00 1.000000 0 0.000000\n")
    with pytest.raises(SystemExit, match="says; write the suite again"):
        suite_files.load_suite(tmp_path)
    star.write_text(kept)
    suite_files.load_suite(tmp_path)
    path = written.path(written.entries[1])
    path.write_bytes(path.read_bytes()[:-2] + b"\0\x3c")
    with pytest.raises(SystemExit, match=path.name):
        suite_files.load_suite(tmp_path)


@pytest.mark.usefixtures("small")
def test_a_missing_suite_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"python benchmarks/accuracy/suite\.py"):
        suite_files.load_suite(tmp_path)


def found(xy: NDArray[np.float32], score: float, shift: float) -> Picks:
    """Picks beside every label, shifted inwards along x and y, all of one score."""
    inwards = np.sign(np.float32((60, 50)) - xy) * np.float32(shift)
    return Picks(xy + inwards, np.ones(len(xy), np.float32), np.full(len(xy), score, np.float32))


@pytest.mark.usefixtures("small")
def test_each_program_is_judged_by_the_threshold_that_it_is_granted(tmp_path: Path) -> None:
    """Ours finds all particles at 0.4, below its threshold, in one size; Topaz finds all in the
    other, one way."""
    written = suite.write_suite(tmp_path, None)
    labels = {entry.file: written.labels(entry).xy_px for entry in written.entries}
    ours = {e.file: found(labels[e.file], 0.9 if e.size == "small" else 0.4, 0.0) for e in written.entries}
    empty = next(entry.file for entry in written.entries if entry.empty)
    ours[empty] = picks([(40, 40), (70, 50), (90, 60)], [0.9, 0.5, 0.49])
    near = {e.file: found(labels[e.file], 0.2, 4.0) for e in written.entries}
    ways = {"none": dict.fromkeys(labels, Picks.empty()), "near": near}
    found_by_specimen = {entry.specimen: 0.3 for entry in written.entries}
    given = topaz_comparison.Ours(ours, 0.5, "some", found_by_specimen)
    result = topaz_comparison.measure(written, given, ways, {})
    for cell in result["cells"]:
        reached = cell["size"] == "large"  # 5.7 px off: a third of the diameter is 5.3 px, or 8
        assert cell["f1"] == (1.0 if cell["size"] == "small" else 0.0)
        assert cell["best_f1"] == cell["found_f1"] == 1.0
        assert (cell["topaz_f1"] == 1.0) is reached
        assert cell["ahead"] == cell["f1"] - cell["topaz_f1"]
    large = [cell for cell in result["cells"] if cell["size"] == "large"]
    assert {cell["topaz_way"] for cell in large} == {"near"}
    assert [row["gap"] for row in result["specimens"]] == [0.0, 1.0]
    empties = len([entry for entry in written.entries if entry.empty])
    assert result["false_picks_per_empty_micrograph"] == 2 / empties
    comparison_shown.show(result)
    comparison_shown.draw(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    topaz_kept = {(c["size"], c["snr"]): {"topaz_f1": c["topaz_f1"]} for c in result["cells"]}
    again = topaz_comparison.measure(written, given, {}, topaz_kept)
    assert [c["ahead"] for c in again["cells"]] == [c["ahead"] for c in result["cells"]]


@pytest.mark.usefixtures("small")
def test_picks_over_the_border_count_neither_for_nor_against(tmp_path: Path) -> None:
    written = suite.write_suite(tmp_path, None)
    entry = next(entry for entry in written.entries if entry.particles)
    labels = written.labels(entry).xy_px
    beside = picks([(1.0, 40.0), (float(suite.SHAPE[entry.size][1]), 40.0)], [1.0, 1.0])
    both = Picks(
        np.concatenate((labels, beside.xy_px)),
        np.ones(len(labels) + 2, np.float32),
        np.ones(len(labels) + 2, np.float32),
    )
    drawn = topaz_comparison.draw_curve(written, [entry], {entry.file: both})
    assert topaz_comparison.at(drawn, 0.5)["f1"] == 1.0


FAKE = """#!{python}
import sys
from pathlib import Path
words = sys.argv[1:]
with open({log!r}, "a") as log:
    print(*words, file=log)
if words[0] == "--version":
    print("TOPAZ 9")
options = dict(word[2:].split("=") for word in words if "=" in word)
files = [word for word in words if word.endswith(".mrc")]
if words[0] == "preprocess":
    target = Path(words[words.index("--destdir") + 1])
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        (target / Path(file).name).touch()
if words[0] == "extract":
    rows = [f"{{Path(file).stem}}\\t{{40 + i}}\\t30\\t{{3 - i}}" for i, file in enumerate(files[:-1])]
    Path(options["output"]).write_text("image_name\\tx_coord\\ty_coord\\tscore\\n" + "\\n".join(rows) + "\\n")
"""


@pytest.mark.usefixtures("small")
def test_topaz_is_run_at_its_scales_and_its_picks_are_used_again(tmp_path: Path) -> None:
    log, program = tmp_path / "log", tmp_path / "topaz"
    program.write_text(FAKE.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    written = suite.write_suite(tmp_path / "suite", None)
    for entry in written.entries:
        object.__setattr__(entry, "diameter_A", 4 * entry.diameter_A)  # 64 and 96 px
    picked = topaz.pick(program, written, tmp_path / "work")
    calls = [line.split() for line in log.read_text().splitlines()]
    extracts = [dict(word[2:].split("=") for word in call if "=" in word) for call in calls if call[0] == "extract"]
    assert {(e["model"], e["up-scale"], e["radius"]) for e in extracts} == {
        (detector, *scale)
        for detector in topaz.DETECTORS
        for scale in (("4", "8"), ("2", "16"), ("6", "8"), ("3", "16"))
    }
    assert len([call for call in calls if call[0] == "preprocess"]) == 4
    full = [entry.file for entry in written.entries if not entry.empty]
    assert all(sorted(files) == sorted(full) for files in picked.values())
    files = picked[topaz.WAYS[0].name]
    assert files[full[0]].xy_px.tolist() == [[40, 30]]
    assert files[full[0]].score == pytest.approx(1 / (1 + np.exp(-3)))
    assert [len(files[file]) for file in full[:4]] == [1, 1, 1, 0]
    log.unlink()
    again = topaz.pick(program, written, tmp_path / "work")
    assert log.read_text().split() == ["--version"]
    assert again[topaz.WAYS[0].name][full[0]].xy_px.tolist() == [[40, 30]]


def test_the_comparison_runs_as_a_command_says_its_options() -> None:
    done = subprocess.run(
        [sys.executable, topaz_comparison.__file__, "--help"], check=True, capture_output=True, text=True
    )
    assert "--topaz" in done.stdout
