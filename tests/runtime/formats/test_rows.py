"""A row of a STAR file that has too many values, or too few, is told by its line."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtpick_rt.formats.encoding import parse

HEAD = ("", "# version 30001", "data_micrographs", "", "loop_ ", "_rlnMicrographName #1", "_rlnOpticsGroup #2")
FITTING = (
    "m/a.mrc 1",
    "m/b.mrc\t2 # of the second day",
    "'m/a b.mrc' 1",
    '"m/it\'s.mrc" 1',
    "m/it's.mrc 1",
    "m/é粒.mrc 1",
    "",
    "# nothing",
    "   m/c.mrc   1   ",
    "m#1.mrc 1",
)
WRONG = {
    "m/a b.mrc 1": "3 values, but its table has 2 columns; a value with a space in it needs quotes",
    "m/a.mrc 1 0.5": "3 values",
    "m/a.mrc": "1 value, but its table has 2 columns",
    "m/é ü.mrc 1": "3 values",
}


def star(rows: Sequence[str], end: str = "\n") -> bytes:
    return end.join((*HEAD, *rows, "")).encode()


@given(rows=st.lists(st.sampled_from(FITTING)), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_rows_that_fit_are_read_whatever_their_quotes_comments_and_line_ends(rows: list[str], end: str) -> None:
    document = parse(star([*rows, "m/last.mrc 1"], end))
    said = [row for row in rows if row and not row.startswith("#")]
    assert len(document[0].find_loop("_rlnMicrographName")) == len(said) + 1


@pytest.mark.parametrize("wrong", list(WRONG))
@given(before=st.lists(st.sampled_from(FITTING), max_size=4), after=st.lists(st.sampled_from(FITTING), max_size=4))
def test_the_first_row_that_does_not_fit_is_named_by_its_line(wrong: str, before: list[str], after: list[str]) -> None:
    with pytest.raises(ValueError, match=f"^line {len(HEAD) + len(before) + 1} has {WRONG[wrong]}"):
        parse(star([*before, wrong, *after, "m/a b.mrc 1"]))


def test_rows_that_fill_each_other_up_are_not_taken_for_others() -> None:
    with pytest.raises(ValueError, match="line 8 has 1 value"):
        parse(star(["m/a.mrc", "m/b.mrc"]))


def test_each_table_is_judged_by_its_own_columns() -> None:
    optics = ("data_optics", "loop_", "_rlnOpticsGroup #1", "1", "2", "")
    assert len(parse(b"\n".join(line.encode() for line in optics) + star(["m/a.mrc 1"]))) == 2
    with pytest.raises(ValueError, match="line 5 has 2 values, but its table has 1 column;"):
        parse(b"\n".join(line.encode() for line in (*optics[:4], "2 0.5", "")) + star(["m/a.mrc 1"]))


def test_a_row_with_a_text_field_may_take_several_lines() -> None:
    document = parse(star(["1 2", ";m/a", "b.mrc", ";", "1"]))
    assert document[0].find_loop("_rlnOpticsGroup")[1] == "1"


def test_pairs_are_no_table() -> None:
    assert (
        parse(b"data_optics\n_rlnOpticsGroup 1\n_rlnMicrographPixelSize 2.0\n")[0].find_value("_rlnOpticsGroup") == "1"
    )
