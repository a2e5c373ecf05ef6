"""Each safeguard that is listed is in the code, once, and its tests are there."""

from pathlib import Path

import pytest

pytest.importorskip("tomllib", reason="needs Python 3.11")
from benchmarks.faults.mutations import Mutation, mutate, mutations

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_a_safeguard_can_be_taken_away_and_names_tests_that_are_there(mutation: Mutation, tmp_path: Path) -> None:
    copy = tmp_path / mutation.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / mutation.file).read_text())
    mutate(mutation, tmp_path)
    compile(copy.read_text(), mutation.file, "exec")
    assert mutation.tests
    assert not [test for test in mutation.tests if not (ROOT / test).is_file()]


def test_no_two_safeguards_have_one_name() -> None:
    names = [mutation.name for mutation in mutations()]
    assert len(names) == len(set(names)) > 80


def test_a_text_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    with pytest.raises(ValueError, match="is there 2 times"):
        mutate(Mutation("twice", "a.py", [{"old": "x = 1", "new": "x = 2"}], ["t"]), tmp_path)
