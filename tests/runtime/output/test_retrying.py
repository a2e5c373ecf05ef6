"""Other processes ask the one that picks to try micrographs again."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtpick_rt import Failure, MicrographRecord, pick
from gtpick_rt.output.layout import retry_folder
from gtpick_rt.output.retrying import Requests, ask_again
from gtpick_rt.types import FloatArray, Micrograph

PLACES = np.array([[71, 39], [151, 87]], np.float32)


def test_each_request_is_taken_once_and_looked_for_now_and_then(tmp_path: Path) -> None:
    now = [100.0]
    requests = Requests(tmp_path, clock=lambda: now[0])
    assert list(requests.take()) == []
    ask_again(tmp_path, "sub/a b")
    ask_again(tmp_path, "sub/a b")
    assert list(requests.take()) == []  # too soon
    now[0] += 2
    assert list(requests.take()) == ["sub/a b"]
    now[0] += 2
    assert list(requests.take()) == []
    assert not list(retry_folder(tmp_path).iterdir())


@pytest.mark.parametrize("watch", [False, True])
def test_a_failed_micrograph_is_picked_again_when_asked_for(
    watch: bool,
    tiny_model: Path,
    dots: Callable[..., Micrograph],
    save_mrc: Callable[[Path, FloatArray], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gtpick_rt.output.retrying._POLL_S", 0.0)
    image = dots(PLACES, (128, 192)).data
    bad = save_mrc(tmp_path / "in" / "a.mrc", np.full_like(image, np.nan))
    for number in range(9):
        save_mrc(tmp_path / "in" / f"b{number}.mrc", image)
    before, out, stop = bad.stat(), tmp_path / "out", threading.Event()
    told: list[str] = []

    def on_done(record: MicrographRecord | Failure) -> None:
        told.append(f"{record.stem} {type(record).__name__}")
        if told[-1] == "a Failure":
            with bad.open("r+b") as file:  # so that nothing shows that it has changed
                file.seek(1024)
                file.write(image.tobytes())
            os.utime(bad, ns=(before.st_atime_ns, before.st_mtime_ns))
            ask_again(out, "a")
            ask_again(out, "nobody")
        if told[-1] == "a MicrographRecord" and watch:
            stop.set()

    summary = pick(
        tmp_path / "in",
        out,
        diameter_A=24,
        model=str(tiny_model),
        watch=watch,
        settle_s=0.05,
        stop=stop,
        on_done=on_done,
    )
    assert "a MicrographRecord" in told
    assert summary.totals.failed == 0
