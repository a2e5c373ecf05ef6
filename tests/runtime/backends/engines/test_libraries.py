"""Which library of the TensorRT family is there, and what to do where none is."""

import gc
import sys
import threading
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from gtpick_rt.backends.engines import libraries
from gtpick_rt.backends.engines.libraries import LibraryName, best_library, garbage_waits, library, logger
from gtpick_rt.errors import BackendError


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("tensorrt", "tensorrt", "cuda13"), ("tensorrt-rtx", "tensorrt_rtx", "rtx")]
)
def test_an_absent_library_says_what_to_install(
    name: LibraryName, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=rf"^{name} is not usable here .*: pip .*'\.\[{extra}\]' in the clone$"):
        library(name)


@pytest.mark.parametrize(
    ("name", "version", "fits"),
    [
        ("tensorrt", "10.11.0.33", False),
        ("tensorrt", "10.12.0.36", True),
        ("tensorrt", "11.4.0.106", True),
        ("tensorrt", "12.0.0", False),
        ("tensorrt-rtx", "1.3.0", False),
        ("tensorrt-rtx", "1.7.1.116", True),
    ],
)
def test_only_versions_that_are_supported_are_used(
    name: LibraryName, version: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(__version__=version)
    monkeypatch.setattr(libraries, "import_module", lambda _: module)
    if fits:
        assert library(name) is module
    else:
        with pytest.raises(BackendError, match=f"^{name} {version} is installed, but >=.*,<.* is needed: pip "):
            library(name)


@pytest.mark.parametrize(
    ("there", "best"), [({"tensorrt", "tensorrt_rtx"}, "tensorrt"), ({"tensorrt_rtx"}, "tensorrt-rtx")]
)
def test_full_tensorrt_comes_first(there: set[str], best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda module: module if module in there else None)
    assert best_library() == best


def test_without_any_library_both_ways_out_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda module: None)
    with pytest.raises(BackendError, match=r"neither tensorrt nor tensorrt-rtx.*\[cuda13\].*\[rtx\]"):
        best_library()


def test_a_library_has_one_logger_in_a_process() -> None:
    first, second = (SimpleNamespace(ILogger=type("ILogger", (), {"__init__": lambda self: None})) for _ in "ab")
    trt, other = (type("Library", (), vars(each)) for each in (first, second))
    assert logger(trt) is logger(trt)
    assert logger(trt) is not logger(other)


def test_garbage_waits_for_all_threads() -> None:
    assert gc.isenabled()
    with garbage_waits():
        inside, leave = threading.Event(), threading.Event()

        def wait() -> None:
            with garbage_waits():
                inside.set()
                leave.wait()

        thread = threading.Thread(target=wait)
        thread.start()
        inside.wait()
    still_off = not gc.isenabled()
    leave.set()
    thread.join()
    assert still_off, "the other thread was not through"
    assert gc.isenabled()


def test_an_error_of_the_library_that_another_thread_has_taken_meanwhile_is_told_there_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = logger(type("Library", (), {"ILogger": type("ILogger", (), {"__init__": lambda self: None})}))

    class Raced(dict[int, deque[str]]):
        """Of which another thread takes what this one has just seen."""

        def __iter__(self) -> Iterator[int]:
            seen = list(super().__iter__())
            self.clear()
            return iter(seen)

    monkeypatch.setattr(log, "errors", Raced({-1: deque(["of a thread of the library"])}))
    assert log.taken() == ""


def test_each_thread_is_told_its_own_errors_and_those_of_the_library() -> None:
    log = logger(type("Library", (), {"ILogger": type("ILogger", (), {"__init__": lambda self: None})}))
    error, logged, leave = SimpleNamespace(name="ERROR"), threading.Event(), threading.Event()
    others: list[str] = []

    def other() -> None:
        log.log(error, "out of memory")
        logged.set()
        leave.wait(60)
        others.append(log.taken())

    thread = threading.Thread(target=other)
    thread.start()
    assert logged.wait(60)
    log.log(error, "no kernel")
    log.errors[-1] = deque(["of a thread of the library"])
    assert log.taken() == "no kernel; of a thread of the library"
    assert log.taken() == ""
    leave.set()
    thread.join()
    assert others == ["out of memory"]
