"""What a run of training was begun with, and whether another may go on with it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gtpick_model.config import ModelConfig
from gtpick_model.learner import Pace
from gtpick_model.real.specimens import RealMicrograph
from gtpick_model.simulator.field import Conditions
from gtpick_rt.errors import UsageError


def settings_of(
    config: ModelConfig,
    schedule: Pace,
    conditions: Conditions,
    micrographs: Sequence[RealMicrograph],
    start_sha256: str | None,
    structures: Sequence[str],
) -> dict[str, Any]:
    """All that must not change within a run; the number of steps may.

    `structures` are the names of those that are trained on.
    """
    settings: dict[str, Any] = {
        "config": asdict(config),
        "schedule": {name: value for name, value in asdict(schedule).items() if name != "steps"},
        "conditions": asdict(conditions),
    }
    if micrographs:
        settings["real"] = {f"{each.folder}/{each.name}": each.sha256 for each in micrographs}
    if start_sha256 is not None:
        settings["start"] = start_sha256
    settings["structures"] = list(structures)
    return dict(json.loads(json.dumps(settings)))


def refuse_others(folder: Path, settings: dict[str, Any]) -> None:
    """Raise UsageError where `folder` holds a run of other settings."""
    curve = folder / "curve.json"
    if not (folder / "state.safetensors").exists():
        return
    run = json.loads(curve.read_text())
    names = [*settings, *(name for name in ("real", "start") if name in run and name not in settings)]
    changed = [name for name in names if run.get(name) != settings.get(name)]
    if changed:
        raise UsageError(
            f"{folder} holds a run of another network or with other settings ({', '.join(changed)} differ); "
            "train into a new folder or remove it"
        )
