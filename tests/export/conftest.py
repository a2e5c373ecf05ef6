"""One small network, exported once by the command that users call."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from gtpick_export.commands import export
from gtpick_model.config import NANO
from gtpick_model.network import GTPick
from gtpick_model.simulator.field import Conditions
from gtpick_model.tiles import libraries, make_tiles
from gtpick_model.weights import load_weights, save_weights
from gtpick_rt.types import FloatArray

UNCALIBRATED = {"threshold": "0.5", "calibration_slope": "1", "calibration_offset": "0"}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def noise(tmp_path: Path) -> Callable[[int], list[Path]]:
    """A function that writes so many micrographs of noise at 2 Å/px: m0.mrc, m1.mrc, ..."""

    def write(count: int) -> list[Path]:
        paths = [tmp_path / f"m{i}.mrc" for i in range(count)]
        for i, path in enumerate(paths):
            with mrcfile.new(path) as mrc:
                mrc.set_data(np.random.default_rng(i).normal(size=(150, 190)).astype(np.float32))
                mrc.voxel_size = 2.0
        return paths

    return write


@dataclass(frozen=True)
class Exported:
    """What `gtpick-rt export` made of the weights."""

    path: Path
    weights: Path
    network: GTPick
    """As it was read from the weights."""
    report: str


@pytest.fixture(scope="session")
def tiles() -> FloatArray:
    """Three simulated tiles `(3, 1, 96, 96)`."""
    library, _ = libraries(None, 12, views=4, side=24)
    images: FloatArray = make_tiles(library, 3, 96, NANO, Conditions(snr=(0.3, 1)), (0,)).images.numpy()
    return images


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tiles: FloatArray) -> Exported:
    """A random network whose scores lie on both sides of its threshold."""
    torch.manual_seed(0)
    config = replace(
        NANO,
        name="tiny",
        stem=(4, 8),
        blocks=(1, 1, 1),
        width=(12, 16),
        dim=16,
        heads=2,
        feed_forward=32,
        tile_px=96,
        queries=24,
    )
    network = GTPick(config)
    for head in network.heads:
        nn.init.normal_(head.classify.weight)
        nn.init.zeros_(head.classify.bias)
        nn.init.normal_(head.locate[-1].weight, std=0.1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.from_numpy(tiles))
    folder = tmp_path_factory.mktemp("export")
    weights, out = folder / "weights.safetensors", folder / "new" / "tiny.onnx"
    save_weights(weights, network, UNCALIBRATED | {"steps": "0"})
    app = typer.Typer()
    app.command()(export)
    # Warnings are errors here: what PyTorch says of its own parts is not to be seen.
    result = CliRunner().invoke(app, [str(weights), str(out), "--version", "7"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Exported(out, weights, load_weights(weights)[0], result.output)
