"""The spec of a small model. No test is judged by its time, which says more about the machine than about the code."""

import pytest
from hypothesis import settings

from gtpick_rt.spec import ModelSpec

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec(
        name="test-model",
        version="1",
        tile_px=256,
        margin_px=32,
        queries=256,
        diameter_px=24,
        diameter_range_px=(10, 36),
        highpass_px=97,
        clip=6,
        merge_distance=0.5,
        threshold=0.4,
        floor=0.05,
    )
