"""What there is to compute on: processor cores, and what they can do."""

import math
import os
import platform
from contextlib import suppress
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""The control group's CPU time in µs: granted, and per which period."""


def usable_cores() -> int:
    """Count the physical cores that inference may keep busy, as far as the process is granted them;
    at least 1.
    """
    return max(1, math.floor(min(_physical_cores(), _cpu_quota())))


def processor() -> str:
    """What the system calls the processor, with what it can do."""
    with suppress(OSError):
        lines = _CPU_INFO.read_text().splitlines()
        return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags"))))
    return ""


def processor_name() -> str:
    """The processor's model, or its architecture where the system does not tell the model."""
    names = [line.partition(":")[2].strip() for line in processor().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def computes_bfloat16() -> bool:
    """Whether the processor multiplies numbers of bfloat16."""
    return any(flag in processor().split() for flag in ("avx512_bf16", "amx_bf16"))


def _physical_cores() -> int:
    """Physical cores that this process may use; two hardware threads of one core count once."""
    cpus = os.sched_getaffinity(0)
    siblings = [Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus]
    try:
        return len({path.read_text() for path in siblings})
    except OSError:
        return len(cpus)


def _cpu_quota() -> float:
    """How many cores' time a container grants."""
    try:
        granted, period = _CPU_MAX.read_text().split()
        return int(granted) / int(period)
    except (OSError, ValueError):  # no such limit, or the word "max"
        return math.inf
