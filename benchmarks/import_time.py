"""What `import gtpick_rt` costs: a fresh interpreter with it less one without, median of many."""

import statistics
import subprocess
import sys
import time

from common import circumstances, save

RUNS = 15


def seconds(code: str) -> float:
    """Median wall time of `python -I -c code`."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure, print and write the result."""
    bare = seconds("pass")
    cost = {f"import {name}": round(seconds(f"import {name}") - bare, 3) for name in ("numpy", "gtpick_rt")}
    for statement, value in cost.items():
        print(f"{statement:18} {value:.3f} s")
    save("import_time", circumstances(["python", "-I", "-c", "import gtpick_rt"]) | {"seconds": cost, "runs": RUNS})


if __name__ == "__main__":
    main()
