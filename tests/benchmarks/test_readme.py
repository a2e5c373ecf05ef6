"""The list of benchmarks names each of them, and says of each result when and of which commit it
is."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
README = (FOLDER / "README.md").read_text()
ROOMS = sorted(path.parent for path in FOLDER.glob("*/results"))
LINKS = re.findall(r"\(\[([^\]]+)\]\(([\w/]+\.json)\)\)", README)


def section(room: Path) -> str:
    title = {"gpu": "GPU"}.get(room.name, room.name.capitalize())
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_each_script_and_each_result_of_a_folder_is_in_its_section(room: Path) -> None:
    text = section(room)
    scripts = {path.name for path in room.glob("*.py") if "__main__" in path.read_text()}
    named = set(re.findall(r"(\w+\.py)\b", text))
    assert scripts - {"slurm_cluster.py"} <= named  # that one starts itself again, as the guard of its daemons
    assert not [name for name in named if not (room / name).exists()]
    results = {path.name for path in (room / "results").glob("*.json")} - {"blind_rating_answers.json"}
    assert not [name for name in results if f"{name}" not in text]


@pytest.mark.parametrize(("said", "link"), LINKS, ids=[link for _, link in LINKS])
def test_an_answer_has_the_day_and_the_commit_of_its_result(said: str, link: str) -> None:
    result = json.loads((FOLDER / link).read_text())
    commit, _, changes = result.get("commit", "").partition("+")
    words = [result["date"][:10], commit[:7] + (f"+{changes}" if changes else "")]
    assert said == ", ".join(word for word in words if word)


def test_no_benchmark_has_more_than_250_lines() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in FOLDER.rglob("*.py")}
    assert not {name: lines for name, lines in lengths.items() if lines > 250}
