"""The diameter that was measured on the first arrivals, measured again when more have come."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.sampling import Sample
from gtpick_rt.arrivals.source import Arrival, Source
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.specimen import Survey
from gtpick_rt.errors import UsageError
from gtpick_rt.output.folder import OutputFolder
from gtpick_rt.output.summary import Settings
from gtpick_rt.picking.request import Request
from gtpick_rt.picking.work import picked_jobs
from gtpick_rt.proof.opening import open_picker

ENOUGH = 10
"""Micrographs that must have come."""
DIFFERENCE = 0.1
"""Of the diameter, from which it is told."""
HOLD_S = 300.0
"""For so long no list of the picks is given out while fewer have come: what nobody has taken up
can be replaced."""


class Remeasuring:
    """A source that has the diameter measured again when enough of its micrographs have come.

    Where another one is found and no picks are given out yet, the source ends early, and `survey`
    is what is to be picked anew.

    Args:
        source: brings the micrographs.
        picker: picks them so far, as was measured on the first.
        output: takes the picks.
        measure: opens a picker of what some micrographs show. Raises UsageError.
        repeatable: whether the micrographs can be had once more.
        notice: is told, in a line.
        stop: once set, `measure` need not come to an end.

    """

    def __init__(
        self,
        source: Source,
        picker: Picker,
        output: OutputFolder,
        measure: Callable[[Sequence[Job]], Picker],
        repeatable: bool,
        notice: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        self._source, self._before, self._output, self._measure = source, picker, output, measure
        self._repeatable, self._notice, self._stop = repeatable, notice, stop
        self.survey: Survey | None = None
        self.live, self.again, self.retry, self.done = source.live, source.again, source.retry, source.done
        if repeatable:
            output.hold.begin(HOLD_S)

    @property
    def backlog(self) -> int:
        """How many micrographs are known and not done yet."""
        return self._source.backlog

    def __iter__(self) -> Iterator[Arrival | None]:
        first, measured = dict.fromkeys(islice(picked_jobs(self._output), ENOUGH)), False  # in order, each once
        for arrival in self._source:
            yield arrival
            if isinstance(arrival, Job) and len(first) < ENOUGH:
                first[arrival] = None
            if len(first) == ENOUGH and not measured:
                measured = True
                if self._differs(list(first)):
                    return

    def _differs(self, jobs: list[Job]) -> bool:
        """Measure again, and tell; whether all is to be picked anew."""
        before_A = self._before.diameter_A
        try:
            with self._measure(jobs[::-1]) as now:  # those that came last were not looked at before
                now_A = now.diameter_A
        except UsageError as error:
            self._output.hold.end()
            told = (
                f"when {ENOUGH} micrographs had come, they were not measured again: {error}; so {before_A:.0f} Å stays"
            )
            if not self._stop.is_set():  # which ends the measurement
                self._tell(told)
            return False
        if abs(now_A / before_A - 1) <= DIFFERENCE and now.contrast == self._before.contrast:
            self._output.hold.end()
            return False
        applies = self._repeatable and not self._output.hold.given_out
        told = (
            f"when {ENOUGH} micrographs had come, the particles measure {now_A:.0f} Å, {now.contrast}; on the first "
            f"they measured {before_A:.0f} Å, {self._before.contrast}"
        )
        if applies:
            self._output.hold.begin(math.inf)
            self.survey = now.survey
            self._tell(f"{told}: no picks are given out yet, so all are picked anew at {now_A:.0f} Å")
        else:
            self._tell(
                f"{told}, which is kept, since picks are given out: to pick all anew, --force --diameter {now_A:.0f}"
            )
        return applies

    def _tell(self, line: str) -> None:
        self._notice(f"warning: {line}")
        self._output.log(state="noticed", message=line)


def _was_cut_off(output: OutputFolder) -> bool:
    """Whether the run that measured the diameter of the picks that are there was killed before any
    of them was given out. Where a network has adapted itself, it has learned them at their size.
    """
    earlier, adaptation = output.earlier, output.adaptation
    measured = earlier is None or earlier.parameters.get("diameter_auto") is True
    return measured and (adaptation is None or adaptation.model is None) and not output.hold.given_out


def remeasuring_from(
    source: Source,
    request: Request,
    previous: Settings | None,
    picker: Picker,
    output: OutputFolder,
    notice: Callable[[str], None],
    stop: threading.Event,
) -> Remeasuring | None:
    """Where the diameter was measured on what had come first, more is to come; None elsewhere."""
    repeatable = output.alone and "-" not in request.inputs
    if request.watching is None or request.diameter_A is not None:
        return None
    if previous is not None and not (repeatable and _was_cut_off(output)):
        return None

    def measure(jobs: Sequence[Job]) -> Picker:
        """On the CPU: a device that picks meanwhile need not bear a second model."""
        micrographs = Sample(takewhile(lambda _: not stop.is_set(), jobs), request.pixel_size_A)
        return open_picker(micrographs=micrographs, model=request.model, backend="cpu")

    return Remeasuring(source, picker, output, measure, repeatable, notice, stop)
