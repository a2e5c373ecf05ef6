"""Where a model cannot be written is said before anything is loaded, read or trained."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gtpick_export import commands
from gtpick_rt.errors import UsageError

OPTIONS = {
    "finetune": ("a.mrc", "--labels", ".", "--diameter", "48", "--out"),
    "adapt": ("a.mrc", "--out"),
    "export": ("absent.safetensors",),
}


@pytest.mark.parametrize("command", OPTIONS)
def test_a_folder_that_cannot_be_is_refused_first(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").touch()
    app = typer.Typer()
    app.command()(getattr(commands, command))
    with pytest.raises(UsageError, match=r"^afile: nothing can be written there \(afile is no folder\); choose"):
        CliRunner().invoke(app, [*OPTIONS[command], "afile/mine.onnx"], catch_exceptions=False)
