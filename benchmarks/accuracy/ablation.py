"""What each of GTpick's contributions is worth.

Short trainings that differ in one choice, on held-out structures.

Every row trains the nano network from the same seed on the same simulated tiles and is scored on
the same tiles of held-out structures: best F1 over thresholds, and AP, one-to-one within a third of
the diameter. Rows differ from the first in what they name; besides, learned queries have no
proposals and so lack the proposals' loss, and cross-entropy keeps the focal loss's prior bias and
matching cost. Writes results/ablation.json and prints the table.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.shared.common import circumstances, save
from gtpick_model.config import NANO
from gtpick_model.tiles import libraries
from gtpick_model.training import Schedule, Trainer

VARIANTS = {
    "GTpick (proposals, 3 groups, focal, conditional)": NANO,
    "1 group": replace(NANO, groups=1),
    "cross-entropy instead of focal": replace(NANO, classification="cross_entropy"),
    "plain cross-attention": replace(NANO, cross_attention="plain"),
    "learned queries, 3 groups": replace(NANO, query_source="learned"),
    "learned queries, 1 group": replace(NANO, query_source="learned", groups=1),
}


def main() -> None:
    """Run every row; a row whose run folder is complete is not trained again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, help="folder of maps and models beside the procedural particles")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1, help="trainings per row")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    arguments = parser.parse_args()
    views = libraries(arguments.structures, 120)
    rows = []
    for name, config in VARIANTS.items():
        for seed in range(arguments.seeds):
            # Learned queries are a table for one tile size: every row is of tiles of 128 px.
            config_128 = replace(config, tile_px=128, queries=128)
            schedule = Schedule(
                steps=arguments.steps,
                batch=arguments.batch,
                tile_sizes_px=(128,),
                evaluate_every=arguments.steps,
                evaluation_tiles=256,
                warm_up=50,
                seed=seed,
            )
            folder = arguments.runs / f"{list(VARIANTS).index(name)}-seed{seed}-{arguments.steps}x{arguments.batch}"
            trainer = Trainer(config_128, schedule, views, folder, torch.device("cpu"))
            trainer.run(lambda step: None)
            last = trainer.curve[-1]
            rows.append({"row": name, "seed": seed, **{key: last[key] for key in ("best_f1", "ap", "seconds")}})
            print(f"{name:52s} seed {seed}  best F1 {last['best_f1']:.3f}  AP {last['ap']:.3f}", flush=True)
    result = {
        "rule": "one-to-one within a third of the diameter, best threshold",
        "steps": arguments.steps,
        "batch": arguments.batch,
        "tile_px": 128,
        "torch": torch.__version__,
    }
    save(__file__, {**circumstances(sys.argv), **result, "rows": rows})


if __name__ == "__main__":
    main()
