import dataclasses
import importlib.metadata
import json

from gtpick_rt.output.summary import ModelRecord, Settings, Summary, Totals


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
    text = "".join(summary.to_json(['{"stem": "a"}', '{"stem": "b"}'], ['{"stem": "c", "kind": "FormatError"}']))
    read = json.loads(text)
    assert read["version"] == importlib.metadata.version("gtpick-rt")
    assert read["totals"]["flags"] == {"ice": 2, "empty": 1}
    assert [entry["stem"] for entry in read["micrographs"]] == ["a", "b"]
    assert read["failed"] == [{"stem": "c", "kind": "FormatError"}]
    assert read["model"] == {"name": "nano", "version": "1", "sha256": "ab", "floor": 0.05}
    assert read["parameters"]["pixel_size_A"] is None
    without = json.loads("".join(summary.to_json([], [])))
    assert (without["micrographs"], without["failed"]) == ([], [])


def test_settings_tell_in_words_what_differs() -> None:
    settings = Settings(
        model="nano 2", model_sha256="ab", diameter_A=160.0, contrast="dark", threshold=0.4, pixel_size_A=None
    )
    assert settings.differences(settings) == []
    other = dataclasses.replace(settings, threshold=0.5, pixel_size_A=1.5)
    assert settings.differences(other) == ["threshold 0.4, now 0.5", "pixel_size_A None, now 1.5"]
