import importlib.metadata
import json

from gtpick_rt.summary import Failure, MicrographRecord, ModelRecord, Summary


def record(stem: str, picks: int, detections: int, *flags: str) -> MicrographRecord:
    return MicrographRecord(
        stem=stem,
        path=f"in/{stem}.mrc",
        width=40,
        height=30,
        pixel_size_A=1.5,
        picks=picks,
        detections=detections,
        seconds=0.5,
        flags=list(flags),
    )


def test_a_summary_holds_totals_every_micrograph_and_every_failure() -> None:
    summary = Summary(
        command=["gtpick-rt", "pick", "in"],
        parameters={"diameter_A": 160.0, "overlays": False, "pixel_size_A": None},
        model=ModelRecord(name="nano", version="1", sha256="ab"),
        backend="onnxruntime-cpu",
        seconds=2.0,
        stage_seconds={"read": 0.25},
        micrographs=[record("a", 3, 5, "ice"), record("b", 0, 1, "empty", "ice")],
        failed=[Failure(stem="c", path="in/c.mrc", kind="FormatError", message="not \udcff read")],
    )
    text = summary.to_json()
    assert text.isascii()
    read = json.loads(text)
    assert read["version"] == importlib.metadata.version("gtpick-rt")
    assert read["totals"] == {
        "micrographs": 2,
        "failed": 1,
        "picks": 3,
        "detections": 6,
        "flags": {"ice": 2, "empty": 1},
    }
    assert read["micrographs"][1]["flags"] == ["empty", "ice"]
    assert [entry["stem"] for entry in read["micrographs"]] == ["a", "b"]
    assert read["failed"][0]["kind"] == "FormatError"
    assert read["model"] == {"name": "nano", "version": "1", "sha256": "ab"}
    assert read["parameters"]["pixel_size_A"] is None
