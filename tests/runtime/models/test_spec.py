"""A spec says all that the runtime must know, or is refused."""

import json
from dataclasses import replace

import pytest

from gtpick_rt.errors import ModelError
from gtpick_rt.models.spec import FORMAT, ModelSpec


def test_a_spec_comes_back_from_json_as_it_was(spec: ModelSpec) -> None:
    full = replace(spec, calibration=(0.5, -1.0), provenance={"steps": "100"})
    assert ModelSpec.from_json(full.to_json()) == full


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tile_px": 256.5}, "whole numbers"),
        ({"margin_px": -1}, "no core"),
        ({"margin_px": 128}, "no core"),
        ({"queries": 0}, "at least one query"),
        ({"highpass_px": 96}, "odd and positive"),
        ({"highpass_px": -3}, "odd and positive"),
        ({"diameter_px": 0}, "diameters must be positive"),
        ({"diameter_px": float("nan")}, "diameters must be positive"),
        ({"diameter_range_px": (0, 30)}, "diameters must be positive"),
        ({"diameter_range_px": (30, 10)}, "diameters must be positive"),
        ({"clip": 0}, "clip"),
        ({"merge_distance": -0.1}, "merge distance"),
        ({"calibration": (0, 0)}, "calibration"),
        ({"floor": 0.5}, "floor <= threshold"),
        ({"threshold": 1.5}, "floor <= threshold"),
    ],
)
def test_what_the_runtime_could_not_work_with_is_refused(
    change: dict[str, object], reason: str, spec: ModelSpec
) -> None:
    with pytest.raises(ModelError, match=f"test-model: .*{reason}"):
        replace(spec, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"tile_px": "wide"}, {"diameter_range_px": [1]}, {"diameter_range_px": 3}, {"colour": "red"}]
)
def test_json_of_the_wrong_kind_is_a_model_error(change: dict[str, object], spec: ModelSpec) -> None:
    with pytest.raises(ModelError):
        ModelSpec.from_json(json.dumps(json.loads(spec.to_json()) | change))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "3"])
def test_text_that_is_no_spec_is_a_model_error(text: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ModelSpec.from_json(text)


def test_json_names_the_version_of_its_format(spec: ModelSpec) -> None:
    assert json.loads(spec.to_json())["format"] == ".".join(map(str, FORMAT))


def in_format(version: object, spec: ModelSpec, **more: object) -> str:
    return json.dumps({**json.loads(spec.to_json()), "format": version, **more})


def test_a_spec_that_does_not_name_its_format_is_of_the_first(spec: ModelSpec) -> None:
    fields = json.loads(spec.to_json())
    del fields["format"]
    assert ModelSpec.from_json(json.dumps(fields)) == spec


def test_fields_that_a_newer_minor_version_adds_are_left_out(spec: ModelSpec) -> None:
    newer = f"{FORMAT[0]}.{FORMAT[1] + 1}.0"
    assert ModelSpec.from_json(in_format(newer, spec, colour="red")) == spec
    with pytest.raises(ModelError, match="colour"):
        ModelSpec.from_json(in_format(".".join(map(str, FORMAT)), spec, colour="red"))


def test_another_major_version_is_refused_with_the_way_out(spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match=r"format is 2\.0\.0, and this gtpick-rt reads 1\.x: update gtpick-rt"):
        ModelSpec.from_json(in_format("2.0.0", spec))


@pytest.mark.parametrize("version", ["1", "1.0", "one", "1.0.0-beta", ""])
def test_a_format_that_is_no_version_is_refused(version: str, spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match="which is no version"):
        ModelSpec.from_json(in_format(version, spec))
    with pytest.raises(ModelError, match="cannot be read"):
        ModelSpec.from_json(in_format(1, spec))
