"""Whichever call to the operating system fails: it is said or mended, no output is cut short, and
the run completes.
"""

import errno
import gzip
import shutil
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile

from gtpick_rt.arrivals.jobs import find_jobs
from gtpick_rt.arrivals.listed import Listed, compare
from gtpick_rt.arrivals.source import Source, Timing
from gtpick_rt.arrivals.watched import Watched
from gtpick_rt.errors import GtpickError
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.summary import Totals
from gtpick_rt.pipeline import bookkeeping
from gtpick_rt.pipeline import threads as pipeline
from gtpick_rt.pipeline.bookkeeping import Listeners
from gtpick_rt.pipeline.threads import settings_of

STEMS = {"a", "b", "c"}
FOR_EVER = 1_000_000
FAULTS = [(errno.ESTALE, 1)] + [(n, times) for n in (errno.EIO, errno.ENOSPC, errno.EACCES) for times in (1, FOR_EVER)]
WAITED_OUT = {(errno.ENOSPC, operation) for operation in ("write", "fsync", "rename")}


@pytest.fixture
def folder(tiny: ModuleType, tmp_path: Path) -> Path:
    """One micrograph of each kind of file."""
    folder = tmp_path / "in"
    plain = tiny.write_micrograph(folder / "a.mrc")
    (folder / "b.mrc.gz").write_bytes(gzip.compress(plain.read_bytes()))
    tifffile.imwrite(folder / "c.tif", np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
    return folder


def pick(folder: Path, out: Path, tiny: ModuleType, watch: bool, **options: Any) -> Totals:
    picker = tiny.fake_picker()
    with OutputFolder(out) as output:
        source: Source = Listed(compare(find_jobs([str(folder)]).jobs, output.finished).todo)
        if watch:
            timing = Timing(settle_s=0.0, poll_s=0.001, longest_s=0.001)
            source = Watched([str(folder)], timing=timing, finished=output.finished, until=len(STEMS))
        return pipeline.run(source, picker, output, settings_of(picker, pixel_size_A=2.0), **options).totals


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("operation", "number", "times", "watch"),
    [
        *((op, *fault, False) for op in ("open", "read", "write", "fsync", "rename") for fault in FAULTS),
        *((op, number, 1, True) for op in ("open", "read", "write") for number in (errno.EIO, errno.EACCES)),
        *(("index", errno.EIO, times, False) for times in (1, FOR_EVER)),
    ],
)
def test_whichever_call_fails_nothing_is_cut_short_and_the_run_completes(
    operation: str, number: int, times: int, watch: bool, folder: Path, faults: Any, tiny: ModuleType, tmp_path: Path
) -> None:
    for moment in count(1):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        faults.plan(operation, number, moment, times)
        try:
            totals = pick(folder, out, tiny, watch, listeners=Listeners(notice=lambda text: faults.mend()))
        except GtpickError:
            complete = False
        else:
            assert totals.micrographs + totals.failed == len(STEMS), moment
            complete = totals.failed == 0
            if times == 1 and (number in bookkeeping.TRANSIENT or (number, operation) in WAITED_OUT):
                assert complete, (moment, (out / "summary.json").read_text())
        faults.mend()
        assert tiny.flaws_of(out) == [], moment
        if not complete:
            pick(folder, out, tiny, watch=False)
        assert tiny.flaws_at_end(out, STEMS) == [], moment
        if not faults.met:
            break
    assert moment > 3
