"""What time it is for a run, whose machine may have another clock than this one."""

from collections.abc import Callable, Sequence

_LIVE_S = 10.0
"""What is found so soon after all was read was written meanwhile."""


class RunClock:
    """Two clocks: ours, and that of the run, which is taken for ours until lines of its log, or
    its summary, arrive as they are written: within seconds, while it lives.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ahead_s = 0.0
        self._all_read: float | None = None  # when, by our clock; None while there is more to be read

    def here(self) -> float:
        """By our clock."""
        return self._clock()

    def now(self) -> float:
        """By the clock of the run, as the times of its log are."""
        return self._clock() + self._ahead_s

    def hear(self, times: Sequence[float], behind: bool) -> None:
        """Take in the times of what was read just now, after which there is more to be read at once
        or not.
        """
        here = self._clock()
        if times and self._all_read is not None and 0 <= here - self._all_read < _LIVE_S:
            self._ahead_s = max(times) - here
        self._all_read = None if behind else here
