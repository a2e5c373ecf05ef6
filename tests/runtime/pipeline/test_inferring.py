"""Threads that each wait for their own micrograph share one network, and its end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.errors import BackendError
from gtpick_rt.output.conversion import Conversion
from gtpick_rt.output.pick_files import PickFiles
from gtpick_rt.pipeline.inferring import SharedInferring
from gtpick_rt.pipeline.stages import Item, Stages
from gtpick_rt.pipeline.threads import settings_of
from gtpick_rt.types import FloatArray, Micrograph

PLACES = np.array([[60, 50], [200, 90], [130, 140]], np.float32)
Script = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
Share = Callable[[Script], SharedInferring]
SOON_S = 20.0


@pytest.fixture
def share(dot_picker: Picker, tmp_path: Path) -> Iterator[Share]:
    """A function that shares a network, until the test ends."""
    shared: list[SharedInferring] = []

    def make(script: Script) -> SharedInferring:
        picker = Picker(ScriptedBackend(script, on_cpu=False), dot_picker.spec, dot_picker.diameter_A)
        files = PickFiles(tmp_path, settings_of(picker), Conversion(), lambda: True)
        shared.append(SharedInferring(Stages(picker, files, overlays=False), SOON_S))
        return shared[-1]

    yield make
    for each in shared:
        each.close()


@pytest.fixture
def items(dot_picker: Picker, dots: Callable[..., Micrograph]) -> list[Item]:
    """Six micrographs that are read."""
    images = [dot_picker.prepare(dots(PLACES, (180, 260), seed=seed)) for seed in range(6)]
    jobs = [Job(Path(f"m{n}.mrc"), PurePosixPath(f"m{n}"), f"m{n}.mrc", 1.0) for n in range(6)]
    return [Item(job, image=image) for job, image in zip(jobs, images, strict=True)]


def test_micrographs_of_several_threads_are_shown_together_and_each_gets_its_own(
    share: Share, items: list[Item], dot_picker: Picker
) -> None:
    waiting, shown = threading.Semaphore(0), list[int]()
    script = dot_picker.backend.infer

    def slow(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not shown:
            for _ in items[1:]:
                assert waiting.acquire(timeout=SOON_S)
        shown.append(len(tiles))
        return script(tiles)

    network = share(slow)

    def infer(item: Item) -> None:
        waiting.release()
        network.infer(item)

    with ThreadPoolExecutor(len(items)) as threads:
        list(threads.map(infer, items))
    assert sum(shown) == len(items)
    assert max(shown) > 1
    for item in items:
        assert item.image is not None
        assert item.raw is not None
        np.testing.assert_array_equal(item.raw.scores, dot_picker.infer(item.image).scores)


def test_a_device_that_fails_is_told_to_all_who_wait_and_to_who_comes_later(share: Share, items: list[Item]) -> None:
    *first, last = items

    def fail(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        raise BackendError("the GPU is lost")

    network = share(fail)

    def infer(item: Item) -> str:
        with pytest.raises(BackendError) as raised:
            network.infer(item)
        return str(raised.value)

    with ThreadPoolExecutor(len(first)) as threads:
        assert {*threads.map(infer, first)} == {"the GPU is lost"}
    assert infer(last) == "the GPU is lost"


def test_one_that_cannot_be_read_does_not_wait_for_the_network(share: Share, items: list[Item]) -> None:
    network, broken = share(lambda tiles: (tiles, tiles)), items[0]
    broken.image, broken.error = None, ValueError("damaged")
    network.infer(broken)
    assert str(broken.error) == "damaged"
