"""The first micrographs tell how large the particles are, and whether they are dark or bright."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.arrivals.sampling import Sample, spread
from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.detection.picker import Picker
from gtpick_rt.detection.specimen import Survey, judge
from gtpick_rt.detection.survey import AT_ALL_SCALES, MOST, USUAL, _series, survey
from gtpick_rt.errors import UsageError
from gtpick_rt.models.files import shipped_models
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.proof.opening import open_picker
from gtpick_rt.reading.micrographs import read_micrograph
from gtpick_rt.types import FloatArray, Micrograph

MakeDiscs = Callable[..., Micrograph]
Script = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
MakeScript = Callable[[tuple[float, float]], Script]
Conduct = Callable[..., Survey]
SAMPLE = sorted((Path(__file__).parents[3] / "sample").glob("*.mrc"))


@pytest.fixture
def conduct(spec: ModelSpec, measure_discs: Script) -> Conduct:
    """A function that surveys micrographs with the network that measures dark discs."""
    return lambda micrographs, diameter_A=None: survey(ScriptedBackend(measure_discs), spec, micrographs, diameter_A)


def inverted(micrograph: Micrograph) -> Micrograph:
    return replace(micrograph, data=-micrograph.data)


@pytest.mark.parametrize(("diameter_A", "pixel_size_A"), [(60, 1.0), (95, 2.5), (191, 1.77), (420, 6.0), (600, 4.0)])
def test_the_diameter_is_found_whatever_it_and_the_pixel_size_are(
    diameter_A: float, pixel_size_A: float, conduct: Conduct, discs: MakeDiscs
) -> None:
    found = conduct([discs(diameter_A, pixel_size_A, n=15)])
    assert found.diameter_A == pytest.approx(diameter_A, rel=0.08)
    assert found.quartiles_A is not None
    low, high = found.quartiles_A
    assert low <= found.diameter_A <= high
    assert (found.contrast, found.micrographs) == ("dark", 1)


def test_bright_particles_are_told_from_dark_ones(conduct: Conduct, discs: MakeDiscs) -> None:
    found = conduct([inverted(discs(150, 2.0))])
    assert found.contrast == "bright"
    assert found.diameter_A == pytest.approx(150, rel=0.08)
    for micrograph, contrast in ((inverted(discs(150, 2.0)), "bright"), (discs(150, 2.0), "dark")):
        given = conduct([micrograph], 150)
        assert (given.diameter_A, given.quartiles_A, given.contrast, given.micrographs) == (150, None, contrast, 1)


def test_a_few_bright_discs_among_dark_ones_do_not_make_the_particles_bright(
    conduct: Conduct, discs: MakeDiscs
) -> None:
    dark, bright = discs(150, 2.0, n=14), discs(150, 2.0, n=16)
    mixed = np.concatenate((dark.data, 2000 - bright.data))
    assert conduct([replace(dark, data=mixed)]).contrast == "dark"
    assert conduct([replace(dark, data=mixed)], 150).contrast == "dark"


def test_micrographs_may_differ_in_pixel_size_and_shape(conduct: Conduct, discs: MakeDiscs) -> None:
    found = conduct([discs(180, 1.5), discs(180, 3.0, side_px=700), discs(180, 5.0)])
    assert found.diameter_A == pytest.approx(180, rel=0.08)
    assert found.micrographs == 3


def test_no_more_micrographs_are_read_than_are_needed(conduct: Conduct, discs: MakeDiscs) -> None:
    def endless() -> Iterator[Micrograph]:
        while True:
            yield discs(150, 2.0)

    assert conduct(endless()).micrographs == USUAL
    assert conduct(endless(), 150).micrographs == AT_ALL_SCALES


def test_bright_particles_are_confirmed_on_more_micrographs(conduct: Conduct, discs: MakeDiscs) -> None:
    bright, dark = inverted(discs(75, 2.0, n=10)), discs(150, 2.0)
    found = conduct([bright] * (USUAL + 1), 150)
    assert (found.contrast, found.micrographs) == ("bright", USUAL)
    found = conduct([bright, bright, dark, dark], 150)
    assert (found.contrast, found.micrographs) == ("dark", 4)


def test_only_the_middle_of_a_large_micrograph_is_looked_at(spec: ModelSpec, measure_discs: Script) -> None:
    seen: list[int] = []

    def counting(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        seen.append(len(tiles))
        return measure_discs(tiles)

    noise = np.random.default_rng(0).normal(size=(1800, 2000)).astype(np.float32)
    survey(ScriptedBackend(counting), spec, [Micrograph(noise, 1.0, Path("noise.mrc"))], 60)
    assert seen[:2] == [4, 4]  # two by two tiles, in both contrasts
    assert max(seen) == 4


def test_empty_micrographs_are_passed_over_until_some_have_particles(conduct: Conduct, discs: MakeDiscs) -> None:
    empty = discs(150, 2.0, n=0, side_px=400)
    found = conduct([*[empty] * (USUAL + 1), discs(150, 2.0)])
    assert found.diameter_A == pytest.approx(150, rel=0.08)
    assert found.micrographs == USUAL + 2


def test_a_first_opinion_that_later_micrographs_overturn_leaves_no_trace(conduct: Conduct, discs: MakeDiscs) -> None:
    """The first shows small bright contaminations; the other, almost as many dark particles, which
    are the rule.
    """
    found = conduct([inverted(discs(70, 2.0, n=19)), discs(200, 2.0, n=16)])
    assert found.contrast == "dark"
    assert found.quartiles_A == pytest.approx((200, 200), rel=0.08)


def test_an_empty_micrograph_beside_a_good_one_does_no_harm(conduct: Conduct, discs: MakeDiscs) -> None:
    empty = discs(150, 2.0, n=0, side_px=400)
    for micrographs in ([empty, discs(150, 2.0)], [discs(150, 2.0), empty]):
        assert conduct(micrographs).diameter_A == pytest.approx(150, rel=0.08)


def test_where_too_few_particles_show_the_diameter_is_asked_for(conduct: Conduct, discs: MakeDiscs) -> None:
    nearly_empty = discs(150, 2.0, n=3, side_px=400)  # one of the three lies outside
    blank = replace(nearly_empty, data=np.zeros((400, 300), np.float32))
    with pytest.raises(UsageError, match=r"too few particles show on the 3 micrographs .* --diameter"):
        conduct([nearly_empty, blank, nearly_empty])
    with pytest.raises(UsageError, match=f"too few particles show on the {MOST} micrographs"):
        conduct([blank] * 20)
    with pytest.raises(UsageError, match="no micrograph can be read"):
        conduct([])
    assert conduct([blank], 150) == Survey(150, None, "dark", 1, None, field_A=600)
    assert conduct([], 150) == Survey(150, None, "dark", 0)


def test_many_doubtful_detections_do_not_outvote_the_few_good_ones(
    spec: ModelSpec, measure_discs: Script, discs: MakeDiscs
) -> None:
    """In every tile there are sixty detections of 18 px with a score of 0.35, at whatever scale."""

    def doubtful(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores, boxes = measure_discs(tiles)
        scores[:, -60:] = 0.35
        x, y = np.meshgrid(np.arange(10) * 24 + 12, np.arange(6) * 40 + 20)
        boxes[:, -60:] = np.stack([x.ravel(), y.ravel(), np.full(60, 18)], axis=1)
        return scores, boxes

    found = survey(ScriptedBackend(doubtful), spec, [discs(150, 2.0)])
    assert found.diameter_A == pytest.approx(150, rel=0.1)


def test_sizes_near_the_ends_of_the_trained_range_do_not_count(
    spec: ModelSpec, discs: MakeDiscs, make_measure: MakeScript
) -> None:
    """The network was trained on 10 to 36 px.

    It takes the smallest for large ones, of 28 px, and is sure of it.
    """
    trained, too_small = make_measure(spec.diameter_range_px), make_measure((3, 13))

    def overconfident(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        scores, boxes = trained(tiles)
        wrong_scores, wrong_boxes = too_small(tiles)
        wrong = wrong_scores > 0
        wrong_boxes[..., 2] = 28
        return np.where(wrong, np.float32(1), scores), np.where(wrong[..., None], wrong_boxes, boxes)

    found = survey(ScriptedBackend(overconfident), spec, [discs(140, 2.0)])
    assert found.diameter_A == pytest.approx(140, rel=0.08)


def test_a_model_of_a_single_size_measures_nothing(spec: ModelSpec, measure_discs: Script, discs: MakeDiscs) -> None:
    single = replace(spec, diameter_range_px=(24, 24))
    backend = ScriptedBackend(measure_discs)
    with pytest.raises(UsageError, match=r"single size .* give --diameter"):
        survey(backend, single, [discs(150, 2.0)])


def test_micrographs_come_from_all_over_the_run_and_bad_ones_are_passed_over(
    tmp_path: Path, save_mrc: Callable[[Path, FloatArray], Path]
) -> None:
    jobs = [Job(tmp_path / f"{i}.mrc", PurePosixPath(str(i)), str(i), 1.0) for i in range(12)]
    for job in jobs:
        save_mrc(job.path, np.ones((5, 4), np.float32))
    jobs[3].path.write_bytes(b"nothing")
    jobs[1].path.unlink()
    assert [int(micrograph.path.stem) for micrograph in Sample(spread(jobs))] == [0, 6, 9, 4, 7, 10, 2, 5, 8, 11]
    assert list(spread([])) == []


def test_the_picker_picks_bright_particles_as_it_picks_dark_ones_of_the_inverted_image(
    spec: ModelSpec, measure_discs: Script, discs: MakeDiscs
) -> None:
    backend, micrograph = ScriptedBackend(measure_discs), discs(150, 2.0)
    dark = Picker(backend, spec, 150).pick(micrograph)
    bright = Picker(backend, spec, 150, "bright").pick(inverted(micrograph))
    assert len(dark) >= 15
    np.testing.assert_array_equal(bright.xy_px, dark.xy_px)
    assert len(Picker(backend, spec, 150).pick(inverted(micrograph))) == 0


@pytest.mark.skipif(not shipped_models(), reason="no model ships in gtpick_rt/models")
def test_the_shipped_model_measures_the_particles_of_the_sample() -> None:
    """They are 214 Å across."""
    picker = open_picker(micrographs=[read_micrograph(path) for path in SAMPLE])
    assert picker.diameter_A == pytest.approx(214, rel=0.15)
    assert picker.contrast == "dark"
    assert picker.survey is not None
    assert picker.survey.micrographs == len(SAMPLE)


def test_the_threshold_that_suits_the_micrographs_is_found(spec: ModelSpec, discs: MakeDiscs) -> None:
    """Scores of a network that finds each of 60 places with the same doubts."""
    scores = np.linspace(0.95, 0.06, spec.queries, dtype=np.float32)

    def doubting(tiles: FloatArray) -> tuple[FloatArray, FloatArray]:
        xy = np.stack(np.meshgrid(np.arange(8), np.arange(spec.queries // 8)), axis=-1).reshape(-1, 2)
        boxes = np.full((len(tiles), spec.queries, 3), spec.diameter_px, np.float32)
        boxes[..., :2] = xy * spec.diameter_px + spec.margin_px
        return np.broadcast_to(scores, boxes.shape[:2]).copy(), boxes

    large = discs(150, 2.0, n=15, side_px=3000)
    spec = replace(spec, threshold=0.9)
    for diameter_A in (None, 150.0):
        found = survey(ScriptedBackend(doubting), spec, [large, large], diameter_A)
        assert found.threshold is not None
        assert found.threshold < spec.threshold
        picker = Picker(ScriptedBackend(doubting), spec, found.diameter_A, found.contrast, survey=found)
        assert picker.threshold == found.threshold
    adapted = replace(spec, provenance={"base_adapted_from": "small.safetensors"})
    assert survey(ScriptedBackend(doubting), adapted, [large, large], 150.0).threshold is None


def test_where_nothing_shows_the_model_s_own_threshold_holds(
    conduct: Conduct, discs: MakeDiscs, spec: ModelSpec
) -> None:
    found = conduct([discs(150, 2.0, n=0, side_px=400)], 150)
    assert found.threshold is None
    assert Picker(ScriptedBackend(lambda tiles: (tiles, tiles)), spec, 150, survey=found).threshold == spec.threshold


@pytest.mark.parametrize("given_A", [40, 60, 90, 140, 150, 170, 240, 400, 900])
def test_what_particles_measure_is_kept_beside_a_diameter_that_is_given(
    given_A: float, conduct: Conduct, discs: MakeDiscs
) -> None:
    found = conduct([discs(150, 2.0)] * 3, given_A)
    assert found.diameter_A == given_A
    assert found.measured_A == pytest.approx(150, rel=0.1)
    assert found.field_A == 1700


def test_a_given_diameter_is_measured_beside_at_the_cost_of_one_micrograph_where_it_is_right(
    spec: ModelSpec, measure_discs: Script, discs: MakeDiscs
) -> None:
    tiles: list[int] = []

    def counting(shown: FloatArray) -> tuple[FloatArray, FloatArray]:
        tiles.append(len(shown))
        return measure_discs(shown)

    survey(ScriptedBackend(counting), spec, [discs(150, 2.0)] * 20, 160)
    assert sum(tiles) <= 4 * (2 * AT_ALL_SCALES + len(_series(spec)))


def test_where_nothing_shows_nothing_is_measured_beside_a_given_diameter(conduct: Conduct, discs: MakeDiscs) -> None:
    assert conduct([discs(150, 2.0, n=0)], 150).measured_A is None
    assert conduct([], 150) == Survey(150, None, "dark", 0)


def test_gaps_between_dark_particles_far_larger_than_given_are_no_bright_particles(
    conduct: Conduct, discs: MakeDiscs
) -> None:
    particles, gaps = discs(200, 2.0, n=15), inverted(discs(52, 2.0, n=10))
    both = replace(particles, data=np.roll(particles.data, 150, 0) + np.roll(gaps.data, -150, 0))
    assert conduct([gaps], 110).contrast == "bright"
    found = conduct([both], 110)
    assert found.contrast == "dark"
    assert found.measured_A == pytest.approx(200, rel=0.1)


def test_of_two_kinds_of_particles_the_given_one_is_believed(conduct: Conduct, discs: MakeDiscs) -> None:
    both = [discs(80, 2.0, n=20, side_px=700), discs(200, 2.0, n=20, side_px=900)] * 2
    for given_A in (80, 200):
        found = conduct(both, given_A)
        assert found.measured_A == pytest.approx(given_A, rel=0.25), given_A


def test_a_model_of_a_single_size_measures_nothing_beside_a_given_diameter(
    spec: ModelSpec, measure_discs: Script, discs: MakeDiscs
) -> None:
    single = replace(spec, diameter_range_px=(24, 24))
    assert survey(ScriptedBackend(measure_discs), single, [discs(150, 2.0)], 60).measured_A is None


def given(diameter_A: float, measured_A: float | None, field_A: float = 4000) -> Survey:
    return Survey(diameter_A, None, "dark", 2, measured_A, field_A)


@pytest.mark.parametrize(
    ("diameter_A", "measured_A"), [(191, 191), (191, None), (191, 130), (120, 191), (300, 191), (60, None)]
)
def test_a_diameter_that_may_be_right_is_not_talked_of(diameter_A: float, measured_A: float | None) -> None:
    assert judge(given(diameter_A, measured_A)) == ""


@pytest.mark.parametrize("diameter_A", [61, 100, 119, 306, 600, 3999])
def test_a_diameter_that_is_far_off_is_told_with_both_numbers(diameter_A: float) -> None:
    told = judge(given(diameter_A, 191))
    assert f"--diameter {diameter_A:g}" in told and "191 Å" in told


@pytest.mark.parametrize(
    ("survey_of", "words"),
    [
        (given(60, 191), "takes 10 times as long"),
        (given(20, 191), "takes 91 times as long"),
        (given(5000, 191), "no particle of 5000 Å fits on the micrographs, which are up to 4000 Å wide"),
        (given(5000, None), "no particle of 5000 Å fits"),
    ],
)
def test_a_diameter_that_cannot_be_meant_must_be_forced(survey_of: Survey, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        judge(survey_of)
    assert "--force" in str(error.value)
    assert words in judge(survey_of, force=True)
