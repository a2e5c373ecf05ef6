"""CryoTransformer's filters on MRC micrographs, rebuilt; what its network is given.

Run in an environment with OpenCV.

    VENV/bin/python benchmarks/speed/cryotransformer_filters.py MICROGRAPH ...

This is not their program: it is written anew from the steps and parameters that theirs has at
commit bdb1412, with the same OpenCV calls on the whole micrograph. Reading is with mrcfile, as
there; nothing is written, and the network, which comes after, is left out.
"""

import sys
from typing import Any

import cv2
import mrcfile
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]


def filtered(micrograph: Image) -> Image:
    """Smooth, denoise, sharpen, equalise and smooth again along edges.

    Takes `(h, w)` of any type and gives 8 bits.
    """
    smooth = to_8_bits(cv2.GaussianBlur(micrograph, (9, 9), 0))
    denoised = cv2.fastNlMeansDenoising(smooth, None, h=10, templateWindowSize=7, searchWindowSize=21)
    sharp = wiener(denoised, side=9, noise=30)
    equalised = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(16, 16)).apply(to_8_bits(sharp))
    return guided(equalised, guide=sharp, side=20, noise=0.1)


def to_8_bits(image: Image) -> Image:
    """Stretch from the darkest to the brightest pixel."""
    darkest, brightest = image.min(), image.max()
    return ((image - darkest) / (brightest - darkest) * 255).astype(np.uint8)


def wiener(image: Image, side: int, noise: float) -> Image:
    """Deconvolve a Gaussian of `side` px."""
    bell = np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 3)) ** 2)
    response = np.fft.fft2(np.outer(bell, bell) / bell.sum() ** 2, image.shape)
    spectrum = np.fft.fft2(image) * response.conj() / (np.abs(response) ** 2 + noise)
    return np.abs(np.fft.ifft2(spectrum))


def guided(image: Image, guide: Image, side: int, noise: float) -> Image:
    """Guided filter: locally, `image` is a linear function of `guide`."""

    def mean(values: Image) -> Image:
        return cv2.boxFilter(values, -1, (side, side))

    image, guide = image.astype(np.float32) / 255, guide.astype(np.float32) / 255
    image_mean, guide_mean = mean(image), mean(guide)
    slope = (mean(guide * image) - guide_mean * image_mean) / (mean(guide * guide) - guide_mean**2 + noise)
    offset = image_mean - slope * guide_mean
    return to_8_bits(mean(slope) * guide + mean(offset))


def main() -> None:
    """Filter each micrograph of the command line."""
    for path in sys.argv[1:]:
        image = filtered(mrcfile.read(path))
        print(path, image.shape, image.mean())


if __name__ == "__main__":
    main()
