"""A backend without a network, for tests and for trying the runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.types import FloatArray


@dataclass
class ScriptedBackend:
    """Answers every batch with `script(tiles)`, which follows the contract of `Backend.infer`."""

    spec: ModelSpec
    script: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    name: str = "scripted"
    on_cpu: bool = True

    def open(self, model: Path) -> ModelSpec:
        """Return the given spec; `model` is not read."""
        return self.spec

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run the script."""
        return self.script(tiles)
