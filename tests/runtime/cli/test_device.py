"""`--device` lets a process see one GPU, by its number in nvidia-smi."""

import os

import pytest
import typer

from gtpick_rt.cli.options import use_device


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})


def chosen() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("CUDA")}


def test_by_default_nothing_is_changed() -> None:
    assert use_device(None) is None
    assert chosen() == {}


def test_the_number_is_that_of_nvidia_smi() -> None:
    assert use_device(1) == 1
    assert chosen() == {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def test_of_those_that_a_scheduler_has_left_it_is_one() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "4,GPU-7"
    use_device(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7"


@pytest.mark.parametrize("visible", ["4,7", ""])
def test_one_that_the_process_may_not_use_is_refused(visible: str) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    with pytest.raises(typer.BadParameter, match="this process sees"):
        use_device(2)
