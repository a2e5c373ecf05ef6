"""A tiny network, and small libraries of particles to simulate from."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gtpick_model.config import NANO, ModelConfig
from gtpick_model.heads import Detections
from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.structures import Structure, to_canonical
from gtpick_model.simulator.views import ViewLibrary, build_library
from gtpick_model.tiles import libraries


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and sums in one order are the same in every run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: what is projected here must not be found by anybody."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "gtpick-rt" / "projections"


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """Every part of GTpick, as small as it can be: 16 queries per group in a tile of 64 px."""
    return replace(
        NANO,
        name="tiny",
        stem=(4, 8),
        blocks=(1, 1, 1),
        width=(12, 16),
        dim=16,
        heads=2,
        feed_forward=32,
        tile_px=64,
        queries=16,
    )


@pytest.fixture(scope="session")
def split() -> tuple[ViewLibrary, ViewLibrary]:
    """Libraries for training and for evaluation, of twelve procedural structures."""
    return libraries(None, 12, views=6, side=24)


@pytest.fixture(scope="session")
def library(split: tuple[ViewLibrary, ViewLibrary]) -> ViewLibrary:
    return split[0]


@pytest.fixture(scope="session")
def ball() -> Structure:
    """A solid ball of 120 Å, which looks the same from everywhere."""
    z, y, x = np.indices((36, 36, 36)) - 17.5
    return to_canonical("ball", (x**2 + y**2 + z**2 <= 15**2).astype(np.float32), 4.0, 32)


@pytest.fixture(scope="session")
def balls(ball: Structure) -> ViewLibrary:
    return build_library([ball], 2, seed=0)


@pytest.fixture(scope="session")
def lone() -> Conditions:
    """One dark particle on a clean field."""
    return Conditions(
        extent_px=(20, 20),
        coverage=(1e-9, 1e-9),
        snr=(1e6, 1e6),
        defocus_A=(1e4, 1e4),
        empty=0,
        junk=0,
        filtered=0,
        prefiltered=0,
    )


@pytest.fixture
def detections() -> Callable[[list[list[float]], list[float]], Detections]:
    """A function that makes the detections of one tile from boxes (x, y, diameter) and logits."""

    def make(boxes: list[list[float]], logits: list[float]) -> Detections:
        return Detections(torch.tensor([logits]), torch.tensor([boxes]))

    return make
