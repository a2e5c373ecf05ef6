"""What a network teaches itself of micrographs that nobody labelled."""

import numpy as np
import pytest
import torch

from gtpick_model import selftraining
from gtpick_model.config import ModelConfig
from gtpick_model.learner import Pace
from gtpick_model.network import GTPick
from gtpick_model.selftraining import Cut, Round, cut, lay, self_train
from gtpick_model.simulator.views import ViewLibrary
from gtpick_rt.types import Picks


@pytest.fixture
def network(config: ModelConfig) -> GTPick:
    torch.manual_seed(0)
    return GTPick(config).eval()


SCORES = [np.array([0.9, 0.6, 0.3]), np.array([0.8, 0.4, 0.2, 0.1])]


def picks(score: np.ndarray) -> Picks:
    """Detections in a row, 20 px apart."""
    x = 10 + 20 * np.arange(len(score), dtype=np.float32)
    return Picks(np.column_stack((x, np.full_like(x, 30))), np.full_like(x, 12), score.astype(np.float32))


def test_ranks_are_counted_in_particles_expected_on_all_micrographs() -> None:
    at = cut([picks(score) for score in SCORES], Round(0.6, 1.5))
    assert at.particles == pytest.approx(3.3)
    assert at.sure == pytest.approx(0.8)  # 0.6 x 3.3: the first two of 0.9, 0.8, 0.6, 0.4, ...
    assert at.doubtful == pytest.approx(0.3)  # 1.5 x 3.3: the first five
    faint = cut([picks(score / 4) for score in SCORES], Round(0.6, 1.5))
    assert faint.sure < at.sure


def test_ranks_beyond_the_last_detection_are_its_own() -> None:
    assert cut([picks(np.array([0.9, 0.8]))], Round(0.5, 4.0)).doubtful == pytest.approx(0.8)
    assert cut([Picks.empty()], Round(0.5, 4.0)) == Cut(0.0, 1.0, 1.0)


def test_the_sure_are_particles_the_doubtful_count_neither_way_and_the_rest_is_background() -> None:
    image = np.zeros((64, 160), np.float32)
    taught = lay(image, picks(np.array([0.9, 0.5, 0.1])), Cut(2.0, 0.8, 0.3), extent_px=14.0, diameter_px=12.0)
    np.testing.assert_allclose(taught.boxes, [[10, 30, 14]])
    x_of_each = (10, 30, 50)
    assert [float(taught.background[30, x]) for x in x_of_each] == [1, 0, 1]


def test_a_network_moves_towards_what_it_is_sure_of(
    monkeypatch: pytest.MonkeyPatch, network: GTPick, library: ViewLibrary
) -> None:
    """A bright spot that the network is told to be sure of scores higher after learning."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.3, (160, 160)).astype(np.float32)
    centres = np.array([[40, 40], [120, 40], [40, 120], [120, 120]], np.float32)
    for x, y in centres.astype(int):
        image[y - 6 : y + 6, x - 6 : x + 6] -= 3
    seen = Picks(centres, np.full(4, 12, np.float32), np.array([0.9, 0.9, 0.9, 0.9], np.float32))
    monkeypatch.setattr(selftraining, "detect_whole", lambda *_: seen)
    steps: list[tuple[int, int]] = []
    pace = Pace(steps=12, batch=4, learning_rate=3e-3, warm_up=2, ema=0.5)
    adapted, cuts, steps_done = self_train(
        network,
        [image],
        (1.0, 0.0),
        12.0,
        library,
        lambda done, of: steps.append((done, of)),
        rounds=(Round(0.9, 1.0), Round(0.9, 1.0)),
        pace=pace,
    )
    assert (len(cuts), steps_done) == (2, 24)
    assert steps == [(n, 24) for n in range(1, 25)]
    before, after = (_score(each, image, centres) for each in (network, adapted))
    assert after > before


def _score(network: GTPick, image: np.ndarray, centres: np.ndarray) -> float:
    """Mean score of the best detection near each centre."""
    network.eval()
    with torch.no_grad():
        answer = network(torch.from_numpy(image[None, None, :160, :160])).layers[-1]
    score, boxes = answer.logits.sigmoid()[0].numpy(), answer.boxes[0].numpy()
    near = np.linalg.norm(boxes[:, None, :2] - centres[None], axis=2) < 10
    return float(np.mean([score[each].max(initial=0.0) for each in near.T]))


def test_with_little_time_there_are_fewer_steps(
    monkeypatch: pytest.MonkeyPatch, network: GTPick, library: ViewLibrary
) -> None:
    seen = picks(np.array([0.9, 0.8, 0.7]))
    monkeypatch.setattr(selftraining, "detect_whole", lambda *_: seen)
    monkeypatch.setattr(selftraining, "FEWEST_STEPS", 2)
    told: list[tuple[int, int]] = []
    image = np.zeros((128, 128), np.float32)
    self_train(
        network,
        [image],
        (1.0, 0.0),
        12.0,
        library,
        lambda done, of: told.append((done, of)),
        rounds=(Round(0.6, 1.6),) * 2,
        seconds=0.0,
        pace=Pace(steps=10_000, batch=4),
    )
    assert told[-1] == (4, 4)
