"""`--backend triton --url HOST:PORT`: both or neither, and the client must be installed."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gtpick_rt.cli.main import app


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--url", "here:8001"], "--url here:8001: is the address of a server: --backend triton"),
        (["--backend", "triton"], "backend triton is a server: say where it is, --url HOST:PORT"),
        (["--backend", "triton", "--url", "here:8001"], "install the extra triton: pip install '.[triton]'"),
    ],
)
def test_what_is_missing_is_told(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mrc").write_bytes(b"not looked at")
    command = ["pick", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--diameter", "106", *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert message in result.stderr
