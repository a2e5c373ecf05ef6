"""What a backend is: the one seam between the runtime and an inference engine."""

from typing import Protocol

from gtpick_rt.types import FloatArray


class Backend(Protocol):
    """A model that is loaded and, where it is not the reference, proved. One thread at a time.

    Whoever opened it closes it: `with contextlib.closing(backend)`.
    """

    name: str
    """What runs, for the log: "onnxruntime-cpu"."""

    on_cpu: bool
    """Whether the processor's cores run the network, so that whatever else runs takes time from
    it."""

    def infer(self, tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Run `(n, 1, tile_px, tile_px)` tiles, any n >= 1.

        Returns scores `(n, queries)` and boxes `(n, queries, 3)`, both owned by the caller. Raises
        BackendError.
        """
        ...

    def close(self) -> None:
        """Give back all that it holds: of the device, of the host, and its threads.

        Nothing may be inferred afterwards. May be called from any thread, and again.
        """
        ...
