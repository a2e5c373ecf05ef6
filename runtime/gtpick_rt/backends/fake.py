"""A backend without a network, for tests and for trying the runtime."""

from collections.abc import Callable
from dataclasses import dataclass

from gtpick_rt.backends.base import AtOnce
from gtpick_rt.types import FloatArray


@dataclass
class ScriptedBackend(AtOnce):
    """Answers every batch with `script(tiles)`, which follows the contract of `Backend.infer`."""

    script: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    name: str = "scripted"
    on_cpu: bool = True
    closed: bool = False

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run the script."""
        return self.script(tiles)

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
