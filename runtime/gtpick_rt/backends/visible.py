"""Which GPU a process sees."""

import os

from gtpick_rt.errors import UsageError
from gtpick_rt.records import counted


def seeing_only(number: int) -> dict[str, str]:
    """The variables of the environment by which a process sees this GPU alone: by its number in
    nvidia-smi or, where some were taken away already, as Slurm does, among those that are left.

    Raises UsageError where so many are not left.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    left = None if visible is None else [each for each in visible.split(",") if each]
    if left is not None and number >= len(left):
        raise UsageError(
            f"GPU {number}: this process sees {counted(len(left), 'GPU')} (CUDA_VISIBLE_DEVICES={visible}), "
            "counted from 0"
        )
    in_order_of_nvidia_smi = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {"CUDA_VISIBLE_DEVICES": str(number) if left is None else left[number], **in_order_of_nvidia_smi}
