"""Warnings that many micrographs share, and tables of long names."""

from gtpick_rt.cli.tables import table
from gtpick_rt.cli.warned import Warned


def test_a_warning_is_shown_once_and_counted() -> None:
    warned = Warned()
    assert list(warned.show("a.mrc", ["odd", "blank"])) == ["warning: a.mrc: odd", "warning: a.mrc: blank"]
    assert list(warned.show("b.mrc", ["odd"])) == []
    assert list(warned.show("c.mrc", ["odd", "other"])) == ["warning: c.mrc: other"]
    assert list(warned.repeated()) == ["3 micrographs: the same warning, first a.mrc: odd"]


def test_a_long_name_stays_whole_and_numbers_stand_below_each_other() -> None:
    name = "a" * 200
    assert list(table(("picks", "F1", "micrograph"), [("1", "0.500", "x"), ("1000", "1.000", name)])) == [
        "picks     F1  micrograph",
        "    1  0.500  x",
        f" 1000  1.000  {name}",
    ]
