"""Which shapes an engine takes: of tiles the batch alone is open, of micrographs both sides are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

from gtpick_rt.errors import UsageError

Shape = tuple[int, ...]
Range = tuple[Shape, Shape, Shape]
"""The smallest shape, the one that kernels are chosen for, and the largest."""


class Shapes(Protocol):
    """What an engine takes, in one or several optimisation profiles; as text, part of its key."""

    wants: ClassVar[str]
    """What each tensor must be."""

    def fits(self, name: str, shape: Sequence[int], kind: str) -> bool:
        """Whether a tensor is so; -1 is a side that the file leaves open, `kind` is TensorRT's name
        of its type.
        """
        ...

    def ranges_of(self, name: str, shape: Sequence[int]) -> list[Range]:
        """For each profile, of an input."""
        ...


@dataclass(frozen=True)
class Profile:
    """The sizes of batch for which an engine has kernels of its own; what lies between has those of
    the next.
    """

    batches: tuple[int, ...] = (1, 8, 32, 64)
    wants: ClassVar[str] = "float32 with the batch alone left open"

    def __post_init__(self) -> None:
        grow = all(before < size for before, size in pairwise((0, *self.batches)))
        if not self.batches or not grow:
            raise UsageError(f"batches must grow from 1 or more, as in 1,8,32,64: got {self}")

    def __str__(self) -> str:
        return ",".join(map(str, self.batches))

    @property
    def ranges(self) -> list[tuple[int, int, int]]:
        """Smallest, usual and largest batch of each optimisation profile."""
        return [(self.batches[0],) * 3, *((before + 1, size, size) for before, size in pairwise(self.batches))]

    def number(self, batch: int) -> int:
        """Which of the profiles takes a batch of this size."""
        return next(number for number, size in enumerate(self.batches) if batch <= size)

    def fits(self, name: str, shape: Sequence[int], kind: str) -> bool:
        """Whether the batch alone is open; see `Shapes.fits`."""
        batch, *rest = shape
        return kind == "FLOAT" and batch == -1 and -1 not in rest

    def ranges_of(self, name: str, shape: Sequence[int]) -> list[Range]:
        """For each profile, of an input; see `Shapes.ranges_of`."""
        _, *rest = shape
        return [((low, *rest), (usual, *rest), (high, *rest)) for low, usual, high in self.ranges]


PROFILE = Profile()
"""Of the engines that picking uses."""


@dataclass(frozen=True)
class Sides:
    """The micrographs that an engine of the preprocessing graph prepares, in one profile: scratch
    memory is that of the shapes which are met, and TensorRT-RTX compiles kernels for each of them.
    """

    px: tuple[int, int, int] = (16, 4096, 11520)
    """Smallest, usual and largest side of a micrograph: up to a K3 in super-resolution."""
    working: tuple[int, int, int] = (16, 1024, 4096)
    """At the model's scale; of 4096 x 4096 pixels a float32 still counts each."""
    cells: tuple[int, int, int] = (1, 86, 1024)
    """Of the coarse image."""
    wants: ClassVar[str] = "one of the preprocessing graph, in float32 but for pixels, all sides left open"

    def __str__(self) -> str:
        return f"micrographs {_span(self.px)} px, working {_span(self.working)} px"

    @property
    def _tensors(self) -> Mapping[str, tuple[tuple[int, int, int], ...]]:
        px, working, cells = self.px, self.working, self.cells
        return {
            "image": (px, px),
            "down": (working, px),
            "across": (px, working),
            "smooth_down": (working, working),
            "smooth_across": (working, working),
            "cells_down": (cells, working),
            "cells_across": (working, cells),
            "clip": (),
            "least_area": (),
            "data": (working, working),
            "coarse": (cells, cells),
            "sigma": (),
            "plain": (),
        }

    def fits(self, name: str, shape: Sequence[int], kind: str) -> bool:
        """Whether it is a tensor of the graph; see `Shapes.fits`."""
        kinds = ("FLOAT", "HALF") if name == "image" else ("FLOAT",)
        sides = self._tensors.get(name)
        return sides is not None and kind in kinds and list(shape) == [-1] * len(sides)

    def ranges_of(self, name: str, shape: Sequence[int]) -> list[Range]:
        """For the one profile, of an input; see `Shapes.ranges_of`."""
        low, usual, high = (tuple(side[which] for side in self._tensors[name]) for which in range(3))
        return [(low, usual, high)]

    def takes(self, before: tuple[int, int], after: tuple[int, int]) -> bool:
        """Whether micrographs of `(H, W)` pixels that become `(h, w)` are among them."""
        sides = [(self.px, side) for side in before] + [(self.working, side) for side in after]
        return all(low <= side <= high for (low, _, high), side in sides)


def _span(sides: tuple[int, int, int]) -> str:
    return f"{sides[0]} to {sides[2]}"


SIDES = Sides()
"""Of the engines that prepare micrographs."""
