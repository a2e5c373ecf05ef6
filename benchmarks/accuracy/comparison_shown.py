"""What topaz_comparison.py has measured, as tables and as a plot."""

from pathlib import Path
from typing import Any

from benchmarks.accuracy.suite import EMPTIES, SPECIMENS

RULE = (
    "one-to-one within a third of the diameter, better scores first; whole particles and picks only, for both programs"
)


def show(result: dict[str, Any]) -> None:
    """Print the three tables."""
    print(
        "\nsize     SNR  labels  precision recall  F1     found    best F1  chance   Topaz   ahead   Topaz's detector"
    )
    for c in result["cells"]:
        line = (
            f"{c['size']:7} {c['snr']:<5g} {c['particles']:5}  {c['precision']:9.3f} {c['recall']:6.3f}  {c['f1']:.3f}"
        )
        line += f"  {c['found_f1']:.3f}    {c['best_f1']:.3f}    {c['chance_f1']:.3f}  "
        if "topaz_f1" in c:
            line += f"  {c['topaz_f1']:.3f}  {c['ahead']:+.3f}   {c['topaz_way']}"
        print(line)
    print("\nspecimen                      Å   F1     best F1  gap    best threshold   gap at each SNR")
    for s in result["specimens"]:
        gaps = " ".join(f"{gap:.3f}" for gap in s["gap_by_snr"].values())
        line = f"{s['specimen']:26} {s['diameter_A']:4.0f}   {s['f1']:.3f}  {s['best_f1']:.3f}    {s['gap']:.3f}"
        print(f"{line}  {s['best_threshold']:.2f}             {gaps}")
    print("\npicks on micrographs without particles")
    for kind in EMPTIES:
        counts = [row["false_picks"] for row in result["empties"] if row["kind"] == kind]
        print(f"{kind:12} {' '.join(f'{count:4}' for count in counts)}")
    print(f"mean         {result['false_picks_per_empty_micrograph']:.2f}")
    print(f"matching: {RULE}")


def draw(result: dict[str, Any], path: Path) -> None:
    """F1 against SNR for each size; and default against best threshold for each specimen."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(SPECIMENS) + 1, figsize=(14, 3.8), layout="constrained")
    lines = {
        "f1": ("GTpick, default threshold", "#0072B2", "o-"),
        "best_f1": ("GTpick, best threshold", "#56B4E9", "v--"),
        "topaz_f1": ("Topaz, best detector and threshold", "#D55E00", "s--"),
    }
    for panel, size in zip(panels, SPECIMENS, strict=False):
        cells = [cell for cell in result["cells"] if cell["size"] == size]
        for key, (label, colour, style) in lines.items():
            if key in cells[0]:
                panel.plot([c["snr"] for c in cells], [c[key] for c in cells], style, color=colour, label=label)
        panel.set(xscale="log", xlabel="SNR at 1/100 diameter per pixel", ylim=(0, 1), title=f"{size} particles")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("F1")
    panels[0].legend(fontsize=7, loc="lower right")
    rows = result["specimens"]
    panels[-1].barh([row["specimen"] for row in rows], [row["gap"] for row in rows], color="#0072B2")
    panels[-1].set(xlabel="F1 lost by the default threshold", title="specimens, all SNR")
    panels[-1].tick_params(axis="y", labelsize=7)
    figure.savefig(path, dpi=120)
