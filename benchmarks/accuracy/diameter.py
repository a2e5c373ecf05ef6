"""How well `--diameter auto` measures size and contrast, and what a wrong diameter costs.

    python benchmarks/accuracy/suite.py SUITE --structures DIR
    python benchmarks/accuracy/diameter.py SUITE [--klh FOLDER]

On the simulated suite every specimen is surveyed as one run of all its micrographs, the same
inverted, and each micrograph alone; F1 is measured with the true diameter times a factor, at the
default threshold. On EMPIAR-10017 both go through the public command. FOLDER holds PNG images of
KLH, of which only the size is known, from the literature, and their pixel size is that of the
published data set. Writes results/diameter.json and .png.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.accuracy.suite_files import Entry, Suite, by, load_suite
from benchmarks.shared.common import (
    DATA,
    DIAMETER_A,
    PIXEL_SIZE_A,
    circumstances,
    convert,
    pick_command,
    result_path,
    save,
)
from benchmarks.shared.plots import plot
from gtpick_rt import Micrograph, Picker, read_micrograph
from gtpick_rt.detection.picker import whole
from gtpick_rt.detection.survey import survey
from gtpick_rt.errors import UsageError
from gtpick_rt.evaluate.figures import evaluate
from gtpick_rt.evaluate.loading import load
from gtpick_rt.proof.opening import open_picker

FACTORS = (0.7, 0.85, 1.0, 1.2, 1.4)
FACTORS_AT_SNR = (0.03, 0.1)
"""Micrographs of the suite on which a wrong diameter is tried."""
KLH_A, KLH_PIXEL_SIZE_A = (350, 400), 2.2
"""Diameter and height of the cylinder; a side view is at most 530 Å across its corners."""
RULE = "one-to-one within a third of the true diameter; on the suite whole particles and picks only"


def find(picker: Picker, micrographs: list[Micrograph], diameter_A: float | None = None) -> dict[str, Any]:
    """What the survey says, or that it says nothing."""
    try:
        found = asdict(survey(picker.backend, picker.spec, micrographs, diameter_A))
        return {name: found[name] for name in ("diameter_A", "quartiles_A", "contrast", "micrographs")}
    except UsageError as error:
        return {"diameter_A": None, "contrast": None, "message": str(error)}


def inverted(micrographs: list[Micrograph]) -> list[Micrograph]:
    """The same with bright particles."""
    return [replace(micrograph, data=-micrograph.data) for micrograph in micrographs]


def measured(true_A: float, found: dict[str, Any]) -> dict[str, Any]:
    """A row of the result: the truth, what was found, and the relative error."""
    error = None if found["diameter_A"] is None else found["diameter_A"] / true_A - 1
    return {"true_A": true_A, **found, "relative_error": error}


def specimens(suite: Suite) -> Iterator[tuple[str, list[Entry], list[Micrograph]]]:
    """Name, entries and images of each specimen with particles."""
    for name, entries in by(suite.filled, "specimen").items():
        yield name, entries, [read_micrograph(suite.path(entry)) for entry in entries]


def survey_suite(suite: Suite, picker: Picker) -> dict[str, list[dict[str, Any]]]:
    """Survey each specimen, dark and bright, with its diameter and without, and each micrograph."""
    runs, alone = [], []
    for name, entries, micrographs in specimens(suite):
        true_A = entries[0].diameter_A
        row = {"specimen": name, **measured(true_A, find(picker, micrographs))}
        row["inverted"] = measured(true_A, find(picker, inverted(micrographs)))
        row["contrast_with_diameter"] = find(picker, micrographs, true_A)["contrast"]
        row["contrast_with_diameter_inverted"] = find(picker, inverted(micrographs), true_A)["contrast"]
        runs.append(row)
        print(f"{name}: {true_A:.0f} Å, found {row['diameter_A']} Å {row['contrast']}", flush=True)
        for entry, micrograph in zip(entries, micrographs, strict=True):
            alone.append({"specimen": name, "snr": entry.snr, **measured(true_A, find(picker, [micrograph]))})
    return {"runs": runs, "micrographs": alone}


def survey_empty(suite: Suite, picker: Picker) -> dict[str, Any]:
    """Survey all micrographs without particles as one run: nothing is to be found."""
    return find(picker, [read_micrograph(suite.path(entry)) for entry in suite.entries if entry.empty])


def suite_by_factor(suite: Suite, loaded: Picker) -> list[dict[str, float]]:
    """Mean F1 of the specimens at each factor on the true diameter."""
    f1: dict[float, list[float]] = {factor: [] for factor in FACTORS}
    for _, entries, micrographs in specimens(suite):
        for factor, values in f1.items():
            picker = Picker(loaded.backend, loaded.spec, entries[0].diameter_A * factor)
            pairs = []
            for entry, micrograph in zip(entries, micrographs, strict=True):
                if entry.snr in FACTORS_AT_SNR:
                    picks = picker.pick(micrograph)
                    picks = picks[picks.score >= picker.spec.threshold]
                    pairs.append((whole(picks, entry.shape, entry.diameter_px), suite.labels(entry)))
            values.append(evaluate(pairs, entries[0].diameter_px / 3).f1)
    return [{"factor": factor, "f1": float(np.mean(values)), "lowest": min(values)} for factor, values in f1.items()]


def pick_real(data: Path, work: Path, diameter_A: float | None, model: str | None) -> dict[str, Any]:
    """Pick EMPIAR-10017 by the public command; the F1 and the parameters in force."""
    micrographs, out = work / "micrographs", work / f"picks-{diameter_A}"
    convert(data, micrographs)
    subprocess.run(pick_command([micrographs], out, model, diameter_A), check=True)
    diameter_px = DIAMETER_A / PIXEL_SIZE_A
    pairs = [(one.picks, one.labels) for one in load(out, data / "labels", diameter_px).micrographs]
    figures = evaluate(pairs, diameter_px / 3)
    parameters = json.loads((out / "summary.json").read_text())["parameters"]
    return {
        "f1": figures.f1,
        "precision": figures.precision,
        "recall": figures.recall,
        **{key: value for key, value in parameters.items() if key != "out"},
    }


def real(data: Path, work: Path, model: str | None) -> dict[str, Any]:
    """EMPIAR-10017 with a measured, the right and wrong diameters."""
    rows = [{"factor": factor, **pick_real(data, work, DIAMETER_A * factor, model)} for factor in FACTORS]
    auto = pick_real(data, work, None, model)
    right = next(row for row in rows if row["factor"] == 1)
    return {
        "true_A": DIAMETER_A,
        "relative_error": auto["diameter_A"] / DIAMETER_A - 1,
        "f1_lost_by_auto": right["f1"] - auto["f1"],
        "auto": auto,
        "by_factor": [{key: row[key] for key in ("factor", "f1", "precision", "recall")} for row in rows],
    }


def survey_klh(folder: Path, picker: Picker) -> dict[str, Any]:
    """Survey the images of KLH as one run, and each alone."""
    images = []
    for path in sorted(folder.glob("KLH_*.png")):
        pixels = np.asarray(Image.open(path).convert("F"), np.float32)
        images.append(Micrograph(pixels, KLH_PIXEL_SIZE_A, path))
    if not images:
        sys.exit(f"no KLH_*.png in {folder}")
    alone = [{"image": image.path.stem, **find(picker, [image])} for image in images]
    return {"literature_A": KLH_A, "pixel_size_A": KLH_PIXEL_SIZE_A, "run": find(picker, images), "images": alone}


def draw(result: dict[str, Any], path: Path) -> None:
    """Measured against true diameters, and F1 against the factor on the diameter."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    alone = [row for row in result["suite"]["micrographs"] if row["diameter_A"]]
    runs = [row for row in result["suite"]["runs"] if row["diameter_A"]]
    left.plot(*points(alone), ".", color="#56B4E9", label="one simulated micrograph")
    left.plot(*points(runs), "o", color="#000000", label="all micrographs of a specimen")
    if "empiar10017" in result:
        left.plot(DIAMETER_A, result["empiar10017"]["auto"]["diameter_A"], "*", color="#D55E00", label="EMPIAR-10017")
    ends = np.array([min(row["true_A"] for row in runs) * 0.9, max(row["true_A"] for row in runs) * 1.1])
    left.plot(ends, ends, color="#999999", linewidth=1)
    left.fill_between(ends, 0.9 * ends, 1.1 * ends, color="#999999", alpha=0.2, label="within 10%")
    left.set(xscale="log", yscale="log", xlabel="true diameter (Å)", ylabel="measured diameter (Å)")
    left.legend()
    for name, rows in (
        ("simulated", result["suite"]["by_factor"]),
        ("EMPIAR-10017", result.get("empiar10017", {}).get("by_factor", [])),
    ):
        right.plot([row["factor"] for row in rows], [row["f1"] for row in rows], "o-", label=name)
    right.set(xlabel="diameter given / true diameter", ylabel="F1", ylim=(0, 1))
    right.grid(alpha=0.3)
    right.legend()
    figure.savefig(path, dpi=120)


def points(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """True and measured diameters."""
    return [row["true_A"] for row in rows], [row["diameter_A"] for row in rows]


def show(result: dict[str, Any]) -> None:
    """Print what matters most."""
    for name, rows in (("runs", result["suite"]["runs"]), ("single micrographs", result["suite"]["micrographs"])):
        errors = np.array([abs(row["relative_error"]) for row in rows if row["relative_error"] is not None])
        print(
            f"{name}: {len(errors)} of {len(rows)} measured, median error {np.median(errors):.1%}, "
            f"largest {errors.max():.1%}, within 10% {np.mean(errors <= 0.1):.0%}"
        )
    told = [(row["contrast"], row["inverted"]["contrast"]) for row in result["suite"]["runs"]]
    print(f"contrast right: dark {sum(d == 'dark' for d, _ in told)}, bright {sum(b == 'bright' for _, b in told)}")
    print("F1 by factor:", {row["factor"]: round(row["f1"], 3) for row in result["suite"]["by_factor"]})
    print(json.dumps({key: result[key] for key in ("empiar10017", "klh") if key in result}, indent=1))


def main() -> None:
    """Measure everything there is data for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="folder of the simulated suite")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of EMPIAR-10017 (README.md)")
    parser.add_argument("--klh", type=Path, help="folder with KLH_*.png")
    parser.add_argument("--model", help="as `gtpick-rt pick --model`")
    arguments = parser.parse_args()
    suite, picker = load_suite(arguments.suite), open_picker(100.0, model=arguments.model)
    result: dict[str, Any] = {
        "model": picker.spec.name,
        "version": picker.spec.version,
        "sha256": picker.model_sha256,
        "rule": RULE,
        "suite": {
            "sha256": suite.sha256,
            **survey_suite(suite, picker),
            "empty": survey_empty(suite, picker),
            "by_factor": suite_by_factor(suite, picker),
        },
    }
    if arguments.data.is_dir():
        with tempfile.TemporaryDirectory() as work:
            result["empiar10017"] = real(arguments.data, Path(work), arguments.model)
    if arguments.klh:
        result["klh"] = survey_klh(arguments.klh, picker)
    show(result)
    save(__file__, {**circumstances(sys.argv), **result})
    plot(result_path(__file__, ".json"), draw)


if __name__ == "__main__":
    main()
