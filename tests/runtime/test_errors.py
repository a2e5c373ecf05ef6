"""What others raise is told in our own words, as errors of our own."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from gtpick_rt.arrivals import sampling
from gtpick_rt.arrivals.sampling import Sample
from gtpick_rt.errors import (
    FormatError,
    GtpickError,
    MicrographError,
    UnreadableError,
    UnwritableError,
    as_own,
    text_of,
)

PATH = Path("in/a.mrc")
DENIED = PermissionError(errno.EACCES, "Permission denied", "in/a.mrc")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GtpickError("two\nlines"), "two\nlines"),
        (ValueError("two\nlines"), "two lines"),
        (RuntimeError(), "no reason is given"),
        (DENIED, "in/a.mrc: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("no image"), "no image"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_an_error_says_is_told_without_names_of_python(error: Exception, said: str) -> None:
    assert text_of(error) == said


def test_our_own_error_of_a_micrograph_stays_as_it_is() -> None:
    error = FormatError("in/a.mrc: no image")
    assert as_own(error, PATH) is error


@pytest.mark.parametrize(
    ("error", "writing", "kind", "said"),
    [
        (DENIED, False, UnreadableError, "in/a.mrc: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), False, UnreadableError, "in/a.mrc: Input/output error"),
        (OSError(errno.EIO, "Input/output error"), True, UnwritableError, "in/a.mrc: Input/output error"),
        (ValueError("no header"), False, MicrographError, "in/a.mrc: no header"),
        (MemoryError(), True, MicrographError, "in/a.mrc: not enough memory"),
    ],
)
def test_an_error_of_another_library_becomes_one_of_ours_that_names_the_file(
    error: Exception, writing: bool, kind: type[MicrographError], said: str
) -> None:
    own = as_own(error, PATH, writing=writing)
    assert (type(own), str(own)) == (kind, said)


def test_a_sample_tells_such_an_error_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sampling, "open_job", fail)
    sample = Sample([SimpleNamespace(path=PATH)])  # type: ignore[list-item]
    assert list(sample) == []
    assert sample.unread == ["in/a.mrc: not enough memory"]
