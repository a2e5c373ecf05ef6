"""An export beside every backend that is on this machine."""

from contextlib import closing
from pathlib import Path

import typer


def compare_backends(model: Path, written: Path, precision: str) -> None:
    """Print how every backend that is here picks beside float32 on the CPU.

    Raises UnlikeError if one does not.
    """
    from gtpick_export.parity import answers_alike
    from gtpick_rt.errors import GtpickError, UnlikeError
    from gtpick_rt.proof.opening import BACKENDS, open_backend
    from gtpick_rt.proof.parity import compare

    reference, spec = open_backend("cpu", model)
    failed = []
    with closing(reference):
        for name in BACKENDS[1:]:
            try:
                backend, _ = open_backend(name, written if name == "cpu" else model)
            except GtpickError as error:
                typer.echo(f"{name}: {error}")
                failed += [name] if isinstance(error, UnlikeError) else []
                continue
            with closing(backend):
                found = compare(reference, backend, spec)
            typer.echo(f"{name}: {found}")
            if not (answers_alike(found, precision) if name == "cpu" else found.holds):
                failed.append(name)
    if failed:
        raise UnlikeError(f"{', '.join(failed)}: does not pick as float32 on the CPU; use another --backend")
