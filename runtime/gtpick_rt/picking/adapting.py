"""A network that adapts itself to some micrographs, in a process of its own, without labels.

The process is `gtpick-rt adapt`. What it has come to lies in the output folder: the adapted model,
or why there is none. So a run that goes on after a stop, or a kill, does not begin once more.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from gtpick_rt.arrivals.jobs import Job
from gtpick_rt.backends.onnx_file import read_spec
from gtpick_rt.backends.support import way_to_add
from gtpick_rt.errors import UnadaptedError, UsageError
from gtpick_rt.files.atomic import remove_empty, write_atomic
from gtpick_rt.models.files import DEFAULT_MODEL, HALF_SUFFIX, resolve_model
from gtpick_rt.models.spec import ModelSpec
from gtpick_rt.output.layout import adapted_folder
from gtpick_rt.output.summary import Outcome

MICROGRAPHS = 12
"""To learn from; watching, those that come first."""
PROGRAM = (sys.executable, "-m", "gtpick_rt", "adapt")
"""What learns."""
_NAME = "adapted"
_NEEDED = ("torch", "safetensors", "onnx", "onnxscript")
_LOWEST = 19
"""Of the priorities of a process: picking comes first."""
_TICK_S = 0.2
_STEP = re.compile(r"adapting, step (\d+) of (\d+)")


def need_training() -> None:
    """Raise UsageError where an adaptation cannot run, before anything is picked."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"--adapt: {missing[0]} is not installed: {way_to_add('train')}")


def weights_of(model: str | None) -> Path | None:
    """The weights to learn from, as `finetune` writes them; None are those of the model that ships.

    Raises ModelError where there is no such model, and UsageError where its weights are not beside
    it, for an ONNX file cannot learn, or `check_start` refuses it.
    """
    if model is None or model == DEFAULT_MODEL:
        return None
    path = resolve_model(model)
    weights = path.with_name(f"{path.name.removesuffix(HALF_SUFFIX).removesuffix('.onnx')}.safetensors")
    if not weights.is_file():
        raise UsageError(
            f"--adapt: to learn, {path.name} needs its weights beside it, and {weights} is missing: put them there; or "
            "adapt first, with gtpick-rt adapt MICROGRAPHS --weights WEIGHTS --out adapted.onnx, and then pick with "
            "--model adapted.onnx in place of --adapt"
        )
    check_start(path, read_spec(path))
    return weights


def check_start(path: Path, spec: ModelSpec) -> None:
    """Raise UsageError where the network of this file has adapted itself already, or was made of
    one that has: its scores are no probabilities any more.
    """
    made_of = spec.told("adapted_from")
    if made_of is not None:
        raise UsageError(
            f"{path}: this network has adapted itself already, and its scores no longer tell what may be taught: adapt "
            f"the one that it was made of ({made_of})"
        )


def outcome_in(out: Path) -> Outcome | None:
    """What an earlier adaptation for this output folder has come to; None where there was none."""
    try:
        return Outcome.of(json.loads(_outcome_path(out).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _outcome_path(out: Path) -> Path:
    return adapted_folder(out) / "outcome.json"


class Adaptation:
    """The process that learns from some micrographs; `close` ends it.

    Args:
        out: the output folder.
        jobs: the micrographs.
        diameter_A: of the particles, in Å; None measures it.
        minutes: to learn in.
        on_step: is told of the steps done, and of how many there will be, in another thread.
        beside: whether it gives way to what picks meanwhile, at the lowest priority.
        pixel_size_A: of all micrographs, in Å; None is what a list says of the first that it names,
            or else the files' own.
        weights: to start from; None are those of the model that ships.

    Raises OSError or ValueError where it cannot begin.

    """

    def __init__(
        self,
        out: Path,
        jobs: Sequence[Job],
        diameter_A: float | None,
        minutes: float,
        on_step: Callable[[int, int], None],
        *,
        beside: bool,
        pixel_size_A: float | None = None,
        weights: Path | None = None,
    ) -> None:
        self._out, self._on_step = out, on_step
        adapted_folder(out).mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(dir=adapted_folder(out)))
        listed_A = next((job.pixel_size_A for job in jobs if job.pixel_size_A), None)
        options = {"--diameter": diameter_A, "--minutes": minutes, "--pixel-size": pixel_size_A or listed_A}
        command = [*PROGRAM, "--out", str(self._scratch / f"{_NAME}.onnx")]
        command += [] if weights is None else ["--weights", str(weights)]
        command += [text for name, value in options.items() if value for text in (name, f"{value:g}")]
        command += ["--", *(str(job.path) for job in jobs)]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if beside:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _LOWEST)
        self._said, self._complaints = list[str](), list[str]()
        self._readers = [
            threading.Thread(target=self._follow, args=stream, daemon=True)
            for stream in ((self._process.stdout, self._said), (self._process.stderr, self._complaints))
        ]
        for reader in self._readers:
            reader.start()

    def _follow(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            step = _STEP.match(line)
            if step:
                self._on_step(int(step[1]), int(step[2]))
            elif line.strip() and not line.endswith(" ...\n"):  # that something is begun
                lines.append(line.strip())

    @property
    def outcome(self) -> Outcome | None:
        """What it has come to; None while it learns.

        A model or a refusal is kept in the output folder; where the process broke, or nothing can
        be kept, the next run begins once more.
        """
        if self._process.poll() is None:
            return None
        for reader in self._readers:
            reader.join()
        code = self._process.returncode
        why = self._complaints[-1] if self._complaints else f"exit code {code}"
        found = Outcome(message=why.removeprefix("error: "))
        try:
            if code == 0:
                found = self._learned()
            if code in (0, UnadaptedError.exit_code):
                write_atomic(_outcome_path(self._out), json.dumps(asdict(found)).encode())
        except (OSError, ValueError, KeyError, TypeError) as error:
            if code == 0:
                found = Outcome(message=f"what was learned cannot be kept ({error}); the next run learns once more")
        return found

    def _learned(self) -> Outcome:
        """Keep the model. Raises OSError, and ValueError, KeyError or TypeError where what it tells
        is damaged.
        """
        changes = json.loads((self._scratch / f"{_NAME}.json").read_bytes())
        for name in (f"{_NAME}{HALF_SUFFIX}", f"{_NAME}.onnx"):
            if (self._scratch / name).exists():
                (self._scratch / name).replace(adapted_folder(self._out) / name)
        return Outcome.of({"message": "; ".join(self._said[:2]), "model": f"{_NAME}.onnx", "changes": changes})

    def wait(self, stop: threading.Event) -> Outcome | None:
        """Wait for what it comes to; None where `stop` was set before."""
        while not stop.is_set():
            found = self.outcome
            if found is not None:
                return found
            stop.wait(_TICK_S)
        return None

    def close(self) -> None:
        """End the process, and remove what it has not brought to an end."""
        self._process.kill()
        with self._process:  # which waits, and closes its streams
            for reader in self._readers:
                reader.join()
        shutil.rmtree(self._scratch, ignore_errors=True)
        remove_empty([adapted_folder(self._out)])
