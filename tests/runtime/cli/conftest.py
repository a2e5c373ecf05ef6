"""Watchers that do not wait."""

import sys

import pytest

from gtpick_rt.arrivals import lookahead

PROGRAM = """
from gtpick_rt.arrivals import lookahead
from gtpick_rt.cli.main import main
lookahead.PATIENCE_S = 0.2
main()
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let watchers measure on the micrographs that are there: those of this process, and the
    program that these words begin.
    """
    monkeypatch.setattr(lookahead, "PATIENCE_S", 0.2)
    return [sys.executable, "-c", PROGRAM]
