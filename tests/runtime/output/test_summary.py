import dataclasses
import importlib.metadata
import json
from typing import Any

import pytest

from gtpick_rt.output.summary import ModelRecord, Settings, Summary, Totals

NOW = "2026-12-01T02:00:00+0000"
SETTINGS = Settings(
    model="nano 2", model_sha256="ab", diameter_A=160.0, contrast="dark", threshold=0.4, pixel_size_A=None
)


def test_a_summary_holds_totals_every_micrograph_and_every_failure() -> None:
    summary = Summary(
        command=["gtpick-rt", "pick", "in"],
        parameters={"diameter_A": 160.0, "overlays": False, "pixel_size_A": None},
        model=ModelRecord(name="nano", version="1", sha256="ab", floor=0.05),
        backend="onnxruntime-cpu",
        seconds=2.0,
        stage_seconds={"read": 0.25},
        picked=1,
        totals=Totals(micrographs=2, failed=1, picks=3, detections=6, flags={"ice": 2, "empty": 1}),
    )
    text = "".join(summary.to_json(['{"stem": "a"}', '{"stem": "b"}'], ['{"stem": "c", "kind": "FormatError"}'], NOW))
    read = json.loads(text)
    assert read["written"] == NOW
    assert read["version"] == importlib.metadata.version("gtpick-rt")
    assert read["totals"]["flags"] == {"ice": 2, "empty": 1}
    assert [entry["stem"] for entry in read["micrographs"]] == ["a", "b"]
    assert read["failed"] == [{"stem": "c", "kind": "FormatError"}]
    assert read["model"] == {"name": "nano", "version": "1", "sha256": "ab", "floor": 0.05}
    assert read["parameters"]["pixel_size_A"] is None
    without = json.loads("".join(summary.to_json([], [], NOW)))
    assert (without["micrographs"], without["failed"]) == ([], [])


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"margin": "50 Å"}, "--margin auto, now 50 Å"),
        ({"mask": "m.png"}, "--mask none, now m.png"),
        ({"mask_sha256": "fedcba9876543210" * 4}, "checksum of the mask none, now fedcba98..."),
        ({"skip_flagged": "ice, low"}, "--skip-flagged none, now ice, low"),
        ({"avoid_contamination": True}, "--avoid-contamination no, now yes"),
        ({"model": "nano 3"}, "model nano 2, now nano 3"),
        ({"model_sha256": "0123456789abcdef" * 4}, "checksum of the model ab, now 01234567..."),
        ({"diameter_A": 147.38251349}, "--diameter 160, now 147.383"),
        ({"contrast": "bright"}, "contrast dark, now bright"),
        ({"threshold": 0.5}, "--threshold 0.4, now 0.5"),
        ({"pixel_size_A": 1.5}, "--pixel-size none, now 1.5"),
    ],
)
def test_settings_tell_by_their_options_what_differs(now: dict[str, Any], told: str) -> None:
    assert SETTINGS.differences(dataclasses.replace(SETTINGS, **now)) == [told]


def test_every_setting_that_differs_is_told() -> None:
    assert SETTINGS.differences(SETTINGS) == []
    other = Settings(**{item.name: "other" for item in dataclasses.fields(Settings)})  # type: ignore[arg-type]
    assert len(SETTINGS.differences(other)) == len(dataclasses.fields(Settings))


def summary_of(picked: int, **changes: Any) -> Summary:
    return Summary(
        command=["gtpick-rt", "pick", f"run of {picked}"],
        parameters={"surveyed_micrographs": picked, "threshold": 0.5},
        model=ModelRecord(name="nano", version="1", sha256="ab", floor=0.05),
        backend="onnxruntime-cpu",
        seconds=float(picked),
        stage_seconds={"read": float(picked)},
        picked=picked,
        totals=Totals(micrographs=5, failed=picked, picks=3, detections=6, flags={}),
        **changes,
    )


def test_a_run_that_picks_nothing_leaves_the_record_of_the_one_before() -> None:
    earlier, now = summary_of(5, version="0.1"), summary_of(0, backlog=3)
    written = now.after(earlier)
    assert written == dataclasses.replace(earlier, totals=now.totals, backlog=3)
    assert json.loads("".join(written.to_json([], [], NOW)))["version"] == "0.1"
    assert now.after(None) is now
    assert summary_of(1).after(earlier) == summary_of(1)


def test_the_record_tells_the_threshold_to_which_the_picks_have_been_brought_since() -> None:
    earlier = summary_of(5)
    now = dataclasses.replace(summary_of(0), parameters={"threshold": 0.8})
    told = {"threshold_of_run": 0.5, "surveyed_micrographs": 5, "threshold": 0.8}
    assert now.after(earlier).parameters == told
    again = dataclasses.replace(summary_of(0), parameters={"threshold": 0.3})
    assert again.after(now.after(earlier)).parameters == told | {"threshold": 0.3}


def test_the_record_keeps_that_a_run_has_gone_on_at_a_threshold_that_was_set_afterwards() -> None:
    set_to = dataclasses.replace(summary_of(0), parameters={"threshold": 0.8}).after(summary_of(5))
    went_on = dataclasses.replace(summary_of(1), parameters={"threshold": 0.8, "threshold_auto": True})
    assert went_on.after(set_to).parameters["threshold_of_run"] == 0.5
    asked = dataclasses.replace(summary_of(1), parameters={"threshold": 0.8, "threshold_auto": False})
    assert "threshold_of_run" not in asked.after(set_to).parameters
