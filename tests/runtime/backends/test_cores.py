"""What there is to compute on."""

import platform
from pathlib import Path

import pytest

from gtpick_rt.backends import cores


@pytest.mark.parametrize(
    ("flags", "found"), [("fpu avx512_bf16 sse", True), ("amx_bf16", True), ("fpu avx512f", False), (None, False)]
)
def test_bfloat16_is_seen_in_the_flags(
    flags: str | None, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: One\nflags\t\t: {flags}\ncpu MHz\t\t: 1.0\n")
    monkeypatch.setattr(cores, "_CPU_INFO", tmp_path / "cpuinfo")
    assert cores.computes_bfloat16() is found


def test_the_processor_has_the_name_that_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_CPU_INFO", tmp_path / "cpuinfo")
    assert cores.processor_name() == platform.machine()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: One 7\nprocessor\t: 1\nmodel name\t: One 7\n")
    assert cores.processor_name() == "One 7"
