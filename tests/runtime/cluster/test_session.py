"""What a worker holds: the model that it opened, until the run or the worker ends."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("distributed", reason="needs Dask: the extra cluster")

from gtpick_rt.backends.fake import ScriptedBackend
from gtpick_rt.cluster.session import Session, SessionOptions
from gtpick_rt.detection.picker import Picker
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.output.conversion import Conversion
from gtpick_rt.pipeline.threads import settings_of


@pytest.mark.parametrize("fit", [True, False])
def test_a_worker_closes_its_model(fit: bool, tmp_path: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    picker = Picker(ScriptedBackend(lambda tiles: (tiles, tiles)), spec, 24.0, model_sha256="of the model")
    monkeypatch.setattr("gtpick_rt.cluster.session.open_picker", lambda *_, **__: picker)
    session = Session(
        SessionOptions(
            out=tmp_path,
            holder="",
            settings=settings_of(picker),
            conversion=Conversion(),
            contrast="dark",
            model=None,
            backend="cpu",
            gpu=not fit,
            overlays=False,
            deadline_s=1.0,
        )
    )
    worker = SimpleNamespace(name="worker", address="here")
    asyncio.run(session.setup(worker))
    assert bool(session.problem) != fit
    asyncio.run(session.teardown(worker))
    assert picker.backend.closed  # type: ignore[attr-defined]
