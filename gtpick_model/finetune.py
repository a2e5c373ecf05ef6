"""Fine-tuning: a trained network adapted to the particles that a user marked on a
few micrographs.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np

from gtpick_model.labelled import LabelledImage, at_least_a_tile, crops, join
from gtpick_model.learner import Learner, Pace
from gtpick_model.network import GTPick
from gtpick_model.simulator.field import Conditions
from gtpick_model.simulator.views import ViewLibrary
from gtpick_model.tiles import Tiles, make_tiles

TILE_PX = 128
SIMULATED = 0.5
"""Share of simulated tiles in a batch: what keeps the network from forgetting all other
specimens."""
PACE = Pace(steps=200, batch=16, learning_rate=5e-4, warm_up=20, ema=0.98)


def adapt(
    network: GTPick,
    images: Sequence[LabelledImage],
    library: ViewLibrary,
    on_step: Callable[[int], None],
    pace: Pace,
    share_simulated: float = SIMULATED,
) -> GTPick:
    """Adapt a copy of `network` to `images`, with simulated particles of `library` between them,
    on `share_simulated` of the tiles.

    `on_step(step)` is called after each step. The same network, images and pace give the same
    result.
    """
    learner = Learner(copy.deepcopy(network), pace)
    padded = [at_least_a_tile(image, TILE_PX) for image in images]
    simulated = round(share_simulated * pace.batch)

    def tiles(step: int) -> Tiles:
        mixed = make_tiles(library, simulated, TILE_PX, network.config, Conditions(), (pace.seed, 3, step))
        rng = np.random.default_rng((pace.seed, 4, step))
        return join(crops(padded, pace.batch - simulated, TILE_PX, rng), mixed)

    learner.learn(tiles, lambda loss: on_step(learner.step))
    return learner.average.eval()
