"""Projections of structures: made once for many orientations, then placed on fields by rotation, scale and shift."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gtpick_model.simulator.structures import FILL, Structure


@dataclass(frozen=True, eq=False)
class ViewLibrary:
    """Projections of `s` structures from `v` directions each."""

    names: tuple[str, ...]
    extent_A: Tensor
    """`(s,)` diameters in Å."""
    views: Tensor
    """`(s, v, n, n)`, of unit mean square inside the particle's disc of diameter FILL * n, centre of mass central."""
    half_views: Tensor
    """The same at half the resolution, for particles drawn small."""

    def only(self, index: int) -> "ViewLibrary":
        """The library of one structure."""
        part = slice(index, index + 1)
        return ViewLibrary(self.names[part], self.extent_A[part], self.views[part], self.half_views[part])

    def without(self, names: Collection[str]) -> "ViewLibrary":
        """The library without the structures of these names."""
        kept = [i for i, name in enumerate(self.names) if name not in names]
        left = tuple(self.names[i] for i in kept)
        return ViewLibrary(left, self.extent_A[kept], self.views[kept], self.half_views[kept])

    def to(self, device: torch.device) -> "ViewLibrary":
        """The library on another device."""
        return ViewLibrary(self.names, self.extent_A.to(device), self.views.to(device), self.half_views.to(device))


def build_library(structures: Sequence[Structure], views: int, seed: int) -> ViewLibrary:
    """Project each structure from `views` random directions (uniform over the sphere)."""
    generator = torch.Generator().manual_seed(seed)
    projections = torch.stack([_project(torch.from_numpy(s.volume), views, generator) for s in structures])
    side = projections.shape[-1]
    axis = (torch.arange(side) - (side - 1) / 2) / (FILL * side / 2)
    disc = (axis[:, None] ** 2 + axis[None, :] ** 2 <= 1).float()
    power = (projections.square() * disc).sum((1, 2, 3), keepdim=True) / (disc.sum() * views)
    projections = projections / power.sqrt()
    half = F.avg_pool2d(projections.flatten(0, 1)[:, None], 2).view(len(structures), views, side // 2, side // 2)
    names = tuple(s.name for s in structures)
    return ViewLibrary(names, torch.tensor([s.extent_A for s in structures]), projections, half)


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """`(count, 3, 3)` rotations, uniform (from random unit quaternions)."""
    w, x, y, z = F.normalize(torch.randn(count, 4, generator=generator), dim=1).unbind(1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def _project(volume: Tensor, views: int, generator: torch.Generator) -> Tensor:
    """`(n, n, n)` to `(views, n, n)`: rotate and sum along z."""
    rotation = F.pad(random_rotations(views, generator), (0, 1))
    planes = []
    for chunk in rotation.split(16):
        grid = F.affine_grid(chunk, [len(chunk), 1, *volume.shape], align_corners=False)
        planes.append(
            F.grid_sample(volume.expand(len(chunk), 1, *volume.shape), grid, align_corners=False).sum(2)[:, 0]
        )
    return torch.cat(planes)


def place(
    canvas: Tensor,  # (b, h, w), added to in place
    library: ViewLibrary,
    tile: Tensor,  # (p,) which canvas
    structure: Tensor,  # (p,)
    view: Tensor,  # (p,)
    xy_px: Tensor,  # (p, 2) centres
    extent_px: Tensor,  # (p,) diameters
    angle: Tensor,  # (p,) in-plane rotation in radians
    weight: Tensor,  # (p,) amplitude
) -> None:
    """Draw particles on fields, wholly or partly inside them, at sub-pixel positions."""
    if len(tile) == 0:
        return
    height, width = canvas.shape[-2:]
    patch = int(extent_px.max() / FILL) + 3
    small = library.half_views.shape[-1] * FILL
    source = library.half_views if float(extent_px.max()) <= small else library.views
    corner = (xy_px - (patch - 1) / 2).round()
    shift = xy_px - corner  # where the centre lies in the patch
    axis = torch.arange(patch, device=canvas.device, dtype=torch.float32)
    unit = 2 * FILL / extent_px[:, None, None]  # px to the [-1, 1] frame of a view
    dx = (axis[None, None, :] - shift[:, 0, None, None]) * unit
    dy = (axis[None, :, None] - shift[:, 1, None, None]) * unit
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    grid = torch.stack((cos * dx + sin * dy, cos * dy - sin * dx), dim=-1)
    drawn = F.grid_sample(source[structure, view][:, None], grid, align_corners=False)[:, 0] * weight[:, None, None]
    x = (corner[:, 0, None, None] + axis[None, None, :]).long()
    y = (corner[:, 1, None, None] + axis[None, :, None]).long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = (tile[:, None, None] * height + y) * width + x
    canvas.view(-1).index_add_(0, index[inside], drawn[inside])
