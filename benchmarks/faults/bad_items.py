"""One bad item stops nothing: each kind of bad item, put into each way in by the real command.

Files, names and rows go in by folder, glob, STAR, .cs, stdin, --watch, check and workers; damaged
files of a finished run meet rethreshold, convert, evaluate, monitor, report and another run. Beside
them lie micrographs that are whole: these must come out, each bad item must be named or done
without, and no command may end otherwise than with exit code 0 or 3. Writes results/bad_items.json.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.faults.bad_files import FILES, ROWS
from benchmarks.faults.bad_outputs import OUTPUTS
from benchmarks.faults.bad_ways import ARRIVALS, FINISHED, LEFT, NAMED, PICKED, Row, damage, make_finished, make_project
from benchmarks.shared.common import circumstances, save, working_in


def try_way(way: str) -> Row:
    """Put all items into one way, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, working_in(Path(folder)):
        if way in ARRIVALS:
            return ARRIVALS[way](make_project())
        make_finished()
        if way == "evaluate":
            Path("labels").mkdir()
            for path in Path("out").glob("*_autopick.star"):
                (Path("labels") / path.name).write_bytes(path.read_bytes())
        damage()
        return FINISHED[way]()


def show(rows: dict[str, Row]) -> None:
    """Print ways by items as a table."""
    items = list(dict.fromkeys(item for row in rows.values() for item in row.cells))
    signs = {PICKED: "+", NAMED: "!", LEFT: "-"}
    print(f"\n{'':34} " + " ".join(f"{way[:9]:>9}" for way in rows))
    for item in items:
        cells = (row.cells.get(item) for row in rows.values())
        print(f"{item:34} " + " ".join(f"{signs[cell.outcome] if cell else '':>9}" for cell in cells))
    print("\n+ used all the same   ! named as a failure of its own   - none of the micrographs asked for")
    for way, row in rows.items():
        for flaw in row.flaws:
            print(f"{way}: {flaw}")


def main() -> None:
    """Try every way, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=(*ARRIVALS, *FINISHED), help="this one only, without saving")
    arguments = parser.parse_args()
    rows = {way: try_way(way) for way in ([arguments.way] if arguments.way else (*ARRIVALS, *FINISHED))}
    show(rows)
    result: dict[str, Any] = {
        "items": len(FILES) + len(ROWS) + len(OUTPUTS),
        "ways": {way: asdict(row) for way, row in rows.items()},
        "flaws": [f"{way}: {flaw}" for way, row in rows.items() for flaw in row.flaws],
    }
    if not arguments.way:
        save(__file__, circumstances(["python", *sys.argv]) | result)
    if result["flaws"]:
        sys.exit("promises were broken")


if __name__ == "__main__":
    main()
