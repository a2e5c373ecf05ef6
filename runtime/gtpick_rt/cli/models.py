"""`gtpick-rt models`: the models that are installed, and what they say of themselves."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gtpick_rt.models.spec import ModelSpec

_WIDTH = 80
_IN_THE_SPEC = ("threshold", "calibration_slope", "calibration_offset", "diameter_px")
"""Of the provenance: what training found is told as the spec has it."""
_WORDS = {
    "tiles_128px": "tiles of 128 px",
    "held_out_best_f1": "best F1 on held-out structures",
    "held_out_ap": "average precision on them",
    "real": "real sets",
    "start_sha256": "SHA-256 of the weights it began with",
    "start_steps": "steps of those",
    "finetuned_from": "fine-tuned from",
    "diameter_A": "diameter in Å",
}
"""For names in the provenance that say little by themselves."""


def models(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="MODEL", help="ONNX files to tell of instead, such as those of finetune or adapt."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """List the installed models, or those given: particles they find, threshold, how they were
    trained, checksum.

    Where --threshold is not given, `pick` uses the model's own, unless the first micrographs
    promise much more at another.
    """
    import json
    from textwrap import fill

    from gtpick_rt.models.files import DEFAULT_MODEL, resolve_model, shipped_models

    named = {str(path): resolve_model(str(path)) for path in files or ()} or shipped_models()
    found = {name: _described(path) for name, path in named.items()}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, model in found.items():
        default = ", the default" if name == DEFAULT_MODEL else ""
        low, high = model["extent_of_diameter"]
        typer.echo(f"{name}, version {model['version']}{default}")
        typer.echo(f"  particles   longest extent {low:.2f} to {high:.2f} of --diameter, at any pixel size")
        typer.echo(f"  threshold   {model['threshold']:.2f}; kept from {model['floor']:.2f} for rethreshold")
        told = {key: value for key, value in model["provenance"].items() if key not in _IN_THE_SPEC}
        for number, (key, value) in enumerate(told.items()):
            head = "  trained" if number == 0 else ""
            line = f"{head:14}{_spelt(key)}: {_readable(value)}"
            typer.echo(fill(line, _WIDTH, subsequent_indent=" " * 16))
        for file, checksum in model["sha256"].items():
            typer.echo(f"  {file}\n    sha256 {checksum}")


def _spelt(key: str) -> str:
    """A name in the provenance as words; that of what a network was adapted from as such."""
    own = key.removeprefix("base_")
    return _WORDS.get(own, own.replace("_", " ")) + (" (before)" if own != key else "")


def _readable(value: str) -> str:
    """A value as people read it: figures with two decimals, the beginning of a checksum."""
    if re.fullmatch(r"[0-9a-f]{64}", value):
        return value[:12]
    return f"{float(value):.2f}" if re.fullmatch(r"\d+\.\d+", value) else value


def _described(path: Path) -> dict[str, Any]:
    """Read what a model says of itself, and the checksums of its files.

    Raises ModelError or BackendError.
    """
    from hashlib import sha256

    from gtpick_rt.backends.onnx_file import read_spec
    from gtpick_rt.models.files import HALF_SUFFIX

    spec: ModelSpec = read_spec(path)
    files = (path, path.with_name(path.stem + HALF_SUFFIX))
    return {
        "version": spec.version,
        "extent_of_diameter": [px / spec.diameter_px for px in spec.diameter_range_px],
        "threshold": spec.threshold,
        "floor": spec.floor,
        "provenance": spec.provenance,
        "sha256": {str(file): sha256(file.read_bytes()).hexdigest() for file in files if file.exists()},
    }
