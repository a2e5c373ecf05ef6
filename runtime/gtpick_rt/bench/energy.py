"""What a GPU takes from the mains, as its driver's library NVML counts it, by nvidia-ml-py."""

from collections.abc import Callable
from typing import Any

from gtpick_rt.backends.cuda import Cuda
from gtpick_rt.errors import BackendError

Meter = Callable[[], float]
"""Joules since some moment."""


def energy_meter() -> Meter | None:
    """The meter of the GPU that backends run on: of the whole card, whoever uses it.

    None where NVML does not tell: without nvidia-ml-py, a driver, or a card that counts.
    """
    try:
        import pynvml
    except ImportError:
        return None
    nvml: Any = pynvml

    def joules() -> float:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000  # it counts in mJ

    try:
        nvml.nvmlInit()
        card = nvml.nvmlDeviceGetHandleByPciBusId(Cuda().pci_bus_id())
        joules()
    except (nvml.NVMLError, BackendError):
        return None
    return joules
