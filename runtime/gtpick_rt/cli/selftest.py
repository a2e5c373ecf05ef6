"""`gtpick-rt selftest`: whether the backends of this machine do what is promised of them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gtpick_rt.cli.files import write_file
from gtpick_rt.cli.options import BackendName, Device, Model
from gtpick_rt.errors import UnlikeError, UsageError


def selftest(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all that was seen as JSON, to be sent.")
    ] = None,
    model: Model = None,
    backend: BackendName = "auto",
    device: Device = None,
    openings: Annotated[int, typer.Option(min=1, metavar="N", help="How often each is opened and closed.")] = 20,
) -> None:
    """Test the backends of this machine: build, prove, replay, time, and open each many times.

    With --backend auto all that can be used. Takes a minute or two for each; nothing else should
    run meanwhile. The exit code is 1 when one does not do what is promised.
    """
    from dataclasses import asdict

    from gtpick_rt.bench.selftest import run_selftest
    from gtpick_rt.doctor import examine
    from gtpick_rt.models.files import resolve_model
    from gtpick_rt.proof.opening import BACKENDS

    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: choose from {', '.join(BACKENDS)}")
    path = resolve_model(model)
    names = BACKENDS[1:] if backend == "auto" else (backend,)
    results: list[dict[str, Any]] = []
    circumstances = _circumstances(path)
    for name in names:
        tested = run_selftest(name, path, openings)
        results.append(asdict(tested))
        typer.echo(f"{name}: {_told(results[-1])}")
        if out is not None:  # what was seen is not lost where it is stopped
            _write(out, {**circumstances, "backends": results})
    if out is not None:
        _write(out, {**circumstances, "diagnosis": asdict(examine(path)), "backends": results})
    failed = [each["name"] for each in results if each["problems"]]
    if failed:
        raise UnlikeError(f"{', '.join(failed)}: does not do what is promised; use another --backend, and report it")


def _write(file: Path, report: dict[str, Any]) -> None:
    write_file(file, (json.dumps(report, indent=1) + "\n").encode())


def _told(tested: dict[str, Any]) -> str:
    if tested["absent"]:
        return f"not here: {tested['absent']}"
    if tested["problems"]:
        return f"FAILED: {'; '.join(tested['problems'])}"
    rates = ", ".join(f"{rate:.0f} in batches of {batch}" for batch, rate in tested["tiles_per_s"].items())
    told = f"sound: {tested['runs']}; tiles/s: {rates}; opened in {tested['opening_s'][-1]:.1f} s"
    if (seen := tested["preparing"]) is not None:
        times = f"{1e3 * seen['graph_s']:.1f} ms (processor {1e3 * seen['processor_s']:.1f} ms)"
        told += f"; it prepares a micrograph in {times}, {seen['same']} of {seen['detections']} detections the same"
    return told


def _circumstances(model: Path) -> dict[str, Any]:
    """On what this was seen."""
    import hashlib

    from gtpick_rt.proof.refusing import machine

    return {**machine(), "model": model.name, "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
