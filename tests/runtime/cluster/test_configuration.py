"""A configuration of Dask that the user has from other work does not matter here, or is named."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

dask = pytest.importorskip("dask", reason="needs Dask: the extra cluster")

from gtpick_rt.cluster.configuration import configured, first_cause, places, starting  # noqa: E402
from gtpick_rt.errors import InUseError, UsageError  # noqa: E402

MakeSite = Callable[[int], Any]
UNFIT = {
    "preload of nannies": "distributed: {nanny: {preload: [no_such_module_xyz]}}",
    "preload of workers": "distributed: {worker: {preload: [no_such_module_xyz]}}",
    "scheduler elsewhere": "scheduler-address: 'tcp://192.0.2.1:8786'",
    "keys that are gone": "distributed: {comm: {require-encryption: true, tls: {ca-file: /gone.pem}}}",
    "no such loop": "distributed: {admin: {event-loop: uvloop}}",
    "little patience": "distributed: {comm: {timeouts: {connect: 1ms}}}",
    "a list for a table": "distributed: [1, 2]",
}


@pytest.fixture
def pick(tmp_path: Path, site: MakeSite) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that picks two micrographs, given the text of a configuration."""
    here = site(2)
    command = [sys.executable, "-m", "gtpick_rt", "pick", str(here.images), "--out", str(here.out)]
    common = ["--diameter", "24", "--model", str(here.model), "--threshold", "0.9", "--backend", "cpu"]

    def call(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "theirs.yaml").write_text(text)
        environment = os.environ | {"DASK_CONFIG": str(tmp_path / "theirs.yaml"), "HOME": str(tmp_path / "home")}
        return subprocess.run(
            [*command, *common, *arguments], env=environment, capture_output=True, text=True, timeout=120
        )

    return call


@pytest.mark.parametrize("name", UNFIT)
def test_workers_of_this_machine_need_none_of_it(
    name: str, pick: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = pick(UNFIT[name], "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "2 micrographs picked" in done.stdout
    assert done.stderr == ""
    assert not (tmp_path / "home").exists()


def test_a_file_that_cannot_be_read_is_named(pick: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = pick("distributed: [", "--workers", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Dask cannot be used: A dask config file at ")
    assert "theirs.yaml" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_others_are_reached_by_is_the_users_own(
    pick: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "scheduler.json").write_text('{"address": "tls://127.0.0.1:1"}')
    text = "distributed: {comm: {tls: {ca-file: /gone.pem}}}"
    done = pick(text, "--scheduler", str(tmp_path / "scheduler.json"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: the workers cannot be reached: ")
    assert f"Dask is configured in {tmp_path / 'theirs.yaml'}: correct that, or leave it out" in done.stderr
    assert done.stderr.count("\n") == 1


def test_settings_hold_for_as_long_as_they_are_needed() -> None:
    with dask.config.set({"one": 1, "distributed.worker.daemon": "theirs"}):
        with configured({"two": 2}, alone=True):
            assert (dask.config.get("one", None), dask.config.get("two")) == (None, 2)
            assert dask.config.get("distributed.worker.daemon", None) != "theirs"
        with configured({"two": 2}, alone=False):
            assert (dask.config.get("one"), dask.config.get("two")) == (1, 2)
        assert (dask.config.get("one"), dask.config.get("two", None)) == (1, None)


def test_the_first_cause_is_told_in_one_line() -> None:
    try:
        try:
            raise OSError("no\nroom")
        except OSError as error:
            raise RuntimeError("Nanny failed") from error
    except RuntimeError as error:
        assert first_cause(error) == "no room"
    assert first_cause(KeyError()) == "no reason is given"


def test_our_own_errors_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InUseError, match=r"^busy$"), starting("it does not start", alone=False):
        raise InUseError("busy")
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path)])
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "said.yaml").write_text("a: 1\n")
    monkeypatch.setenv("DASK_ARRAY__CHUNK", "1")
    assert places() == [str(tmp_path / "said.yaml"), "DASK_ARRAY__CHUNK"]
    named = pytest.raises(UsageError, match=r"^it does not start: why; Dask is configured in .*said\.yaml, DASK_ARRAY")
    with named, starting("it does not start", alone=False):
        raise RuntimeError("why")
    with pytest.raises(UsageError, match=r"^it does not start: why$"), starting("it does not start", alone=True):
        raise RuntimeError("why")
