"""Whether a pixel size can be true: some programs write nm where Å are meant, which makes a
micrograph hardly wider than its particles.
"""

from pathlib import Path

from gtpick_rt.errors import PixelError

SMALLEST_PARTICLE_A = 50.0
"""Of those that are imaged singly."""
_FINE_A, _FIELD = 0.3, 10.0
"""No detector has such pixels, but in super-resolution and then some ten thousand; so wide, in
particle diameters, is the field of view then at least."""
_SMALL_A, _NARROW = 0.5, 4.0
"""The same, of what may be true but is told: a small crop at a high magnification looks like it."""


def judge_pixel_size(
    path: Path,
    pixel_size_A: float,
    shape: tuple[int, int],
    diameter_A: float = SMALLEST_PARTICLE_A,
    given: bool = False,
) -> str:
    """What is odd about a pixel size, for an image of `(h, w)` pixels and particles of
    `diameter_A`, or "".

    Raises PixelError when it is hardly possible, and was not `given` by the user.
    """
    field_A = min(shape) * pixel_size_A
    ratio = field_A / diameter_A
    impossible = pixel_size_A < _FINE_A and ratio < _FIELD
    if not impossible and not (pixel_size_A < _SMALL_A and ratio < _NARROW):
        return ""
    what = (
        f"{pixel_size_A:g} Å per pixel makes the image {field_A:.0f} Å wide, {ratio:.1f} times a particle of "
        f"{diameter_A:g} Å"
    )
    if given:
        return f"{what}: is --pixel-size in nm?"
    if impossible:
        raise PixelError(
            f"{path}: {what}, so it is hardly in Å: if it is in nm, pass --pixel-size {10 * pixel_size_A:g}, and if it "
            f"is right, --pixel-size {pixel_size_A:g}"
        )
    return f"{what}: if it is in nm, pass --pixel-size {10 * pixel_size_A:g}"
