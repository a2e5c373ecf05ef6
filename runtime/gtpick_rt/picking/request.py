"""What is asked for, what there is to do, and who is told of it."""

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtpick_rt.arrivals.folders import DEFAULT_NAMES, Names
from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.known import Awaited
from gtpick_rt.arrivals.source import DEFAULT_TIMING, Source, Timing
from gtpick_rt.arrivals.sums import LeftOut
from gtpick_rt.cluster.specs import ClusterSpec
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import UsageError
from gtpick_rt.output.conversion import Conversion
from gtpick_rt.pipeline import bookkeeping

_FEW = 3
"""Inputs that a message repeats."""


@dataclass(frozen=True, kw_only=True)
class Watching:
    """How micrographs that arrive are waited for."""

    timing: Timing = DEFAULT_TIMING
    stop_after_idle_s: float | None = None
    """End when nothing has come for so long; None waits for ever."""
    until: int | None = None
    """End after so many micrographs."""


ADAPT_MINUTES = 5.0
"""To adapt the network in, unless a request says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to pick, with what and where to; see `pick`.

    Raises UsageError for formats that are not known.
    """

    inputs: tuple[str, ...]
    out: Path
    diameter_A: float | None = None
    pixel_size_A: float | None = None
    model: str | None = None
    backend: str = "auto"
    threshold: float | None = None
    margin: str | None = None
    """Width along the borders where nothing is picked, see `detection.exclusion.parse_margin`;
    None is as for the picks that are there, as of the three that follow."""
    mask: Path | None = None
    """MRC or PNG, white where picks may lie, or a folder with one for each micrograph."""
    skip_flagged: tuple[str, ...] | None = None
    """Micrographs with one of these quality flags get no picks."""
    avoid_contamination: bool = False
    """Leave out picks on film and in ice larger than a particle."""
    formats: tuple[str, ...] = ()
    recursive: bool = False
    names: Names = DEFAULT_NAMES
    watching: Watching | None = None
    """None takes the micrographs that are there now."""
    overlays: bool = False
    force: bool = False
    adapt: bool = False
    """Whether the network adapts itself to the micrographs."""
    adapt_minutes: float = ADAPT_MINUTES
    """To learn in."""
    cluster: ClusterSpec | None = None
    """Where the workers are that pick; None picks in this process."""
    shard: str | None = None
    """The part to pick, beside others: "3/8"."""

    def __post_init__(self) -> None:
        Conversion(formats=self.formats)  # refuses formats that are not known
        if self.shard is not None and (self.force or self.cluster is not None):
            raise UsageError("--shard goes without --force and without workers; to pick anew choose another --out")
        if not self.adapt and self.adapt_minutes != ADAPT_MINUTES:
            raise UsageError("--adapt-minutes goes with --adapt")
        if self.adapt and self.shard is not None:
            raise UsageError(
                "--adapt goes without --shard, since all shards need the same model: make it once with "
                f"{self._adapt()}, and then give every shard --model adapted.onnx in place of --adapt"
            )
        if self.adapt and "-" in self.inputs:
            raise UsageError(
                "--adapt goes without -, since paths on stdin come once, and all is picked once more with the adapted "
                "network: name a folder or a list, with --watch, in place of -; or adapt first, with "
                f"{self._adapt()}, and then pick - with --model adapted.onnx in place of --adapt"
            )

    def _adapt(self) -> str:
        """The command that makes an adapted model for these micrographs, to be typed."""
        told = len(self.inputs) <= _FEW and "-" not in self.inputs
        micrographs = self.inputs if told else ("MICROGRAPHS",)
        options = {"--diameter": self.diameter_A, "--pixel-size": self.pixel_size_A}
        given = [text for name, value in options.items() if value is not None for text in (name, f"{value:g}")]
        return shlex.join(["gtpick-rt", "adapt", *micrographs, *given, "--out", "adapted.onnx"])


@dataclass(frozen=True, kw_only=True)
class Work:
    """The micrographs of a run."""

    source: Source
    look: Callable[[], Iterator[Job]]
    """Brings some of them to be looked at before the run."""
    endless: bool
    """Whether others may come at any time."""
    total: int | None
    """How many there are to pick, if that is known."""
    before: int
    """How many an earlier run has picked."""
    excluded: Callable[[], int] = lambda: 0
    """How many files were left out by their names, so far."""
    renamed: Sequence[Job] = ()
    """Picked by an earlier run, and called otherwise by this one."""
    same: Callable[[], list[LeftOut]] = list
    """Files that were left out, so far, since another sum of the same movie is there."""
    awaited: Callable[[], list[Awaited]] = list
    """Files that came, or were named, and are not picked yet, as they are not whole or have not had
    their turn."""


def ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Listeners(bookkeeping.Listeners):
    """What is called from the first preparations on, in any of the run's threads."""

    building: Callable[[str, int, int], None] = ignore
    """While an engine is built: with a phase, its steps that are done and how many it has."""
    begun: Callable[[Picker, Work, int], None] = ignore
    """Before the first micrograph is picked: with the picker, the work, and how many are picked
    already."""
    notice: Callable[[str], None] = logging.getLogger("gtpick_rt").warning
