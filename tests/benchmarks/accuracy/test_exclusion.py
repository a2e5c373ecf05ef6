"""The masks that the benchmark of where not to pick paints."""

import numpy as np

from benchmarks.accuracy import exclusion
from gtpick_rt.detection.preprocess import WorkingImage


def test_a_mask_leaves_out_a_disc_around_each_marked_place_and_nothing_else() -> None:
    data = np.zeros((100, 150), np.float32)
    image = WorkingImage(data, (400, 600), coarse=data)
    allowed = exclusion.mask_around(np.array([[80, 240], [500, 100]]), 60, image)
    y, x = np.mgrid[:100, :150] * 4 + 1.5
    distance = np.minimum(np.hypot(x - 80, y - 240), np.hypot(x - 500, y - 100))
    assert not allowed[distance < 26].any()
    assert allowed[distance > 34].all()
