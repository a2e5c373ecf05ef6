"""Dask's configuration, of which users may have one from other work: files, and variables of the
environment.

Workers that we start on this machine need none of it. How others are reached may stand only there:
a network interface, the keys of a scheduler.
"""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import dask

from gtpick_rt.errors import GtpickError, UsageError, text_of

_PLACES = ("DASK_CONFIG", "DASK_ROOT_CONFIG")
"""Variables that name files instead."""


@contextmanager
def configured(own: Mapping[str, Any], *, alone: bool) -> Iterator[None]:
    """Let Dask have the settings `own`, upon those of the user or, `alone`, upon its defaults."""
    with _defaults() if alone else nullcontext(), dask.config.set(own):
        yield


@contextmanager
def _defaults() -> Iterator[None]:
    before = copy.deepcopy(dask.config.config)
    dask.config.refresh(paths=[], env={})
    try:
        yield
    finally:
        dask.config.config.clear()
        dask.config.config.update(before)


@contextmanager
def starting(what: str, *, alone: bool) -> Iterator[None]:
    """Turn whatever goes wrong with the start of `what` into a UsageError of one line, which names
    its first cause and, unless none of it counts, where the user has a configuration.
    """
    try:
        yield
    except GtpickError:
        raise
    except Exception as error:
        found = [] if alone else places()
        hint = f"; Dask is configured in {', '.join(found)}: correct that, or leave it out" if found else ""
        raise UsageError(f"{what}: {first_cause(error)}{hint}") from error


def first_cause(error: BaseException) -> str:
    """What an error came of in the end, in one line: Dask wraps each into others."""
    while (inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = inner
    return " ".join(text_of(error).split())


def places() -> list[str]:
    """The files and variables that configure Dask for this user; a file of comments does not."""
    files = [str(path) for path, said in dask.config.collect_yaml(dask.config.paths, return_paths=True) if said]
    return files + sorted(name for name in os.environ if name.startswith("DASK_") and name not in _PLACES)
