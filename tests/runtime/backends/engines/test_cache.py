"""An engine is code: the cache gives back only what this user built here, for just this model,
device and version.
"""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gtpick_rt.backends.engines.cache import EngineCache, Unfit, default_folder
from gtpick_rt.backends.engines.profiles import SIDES
from gtpick_rt.backends.engines.records import EngineKey, Record, superseded
from gtpick_rt.errors import BackendError

Damage = Callable[[Path], None]


def record_of(engine: Path) -> Path:
    return engine.with_suffix(".json")


def turn_into_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def turn_into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def turn_into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit_record(engine: Path, **changes: object) -> None:
    sidecar = json.loads(record_of(engine).read_text())
    sidecar["record"] |= changes
    record_of(engine).write_text(json.dumps(sidecar))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "truncated": (lambda engine: os.truncate(engine, 200), "it has 200 bytes instead of 256"),
    "empty": (lambda engine: os.truncate(engine, 0), "it has 0 bytes instead of 256"),
    "corrupt": (
        lambda engine: engine.write_bytes(engine.read_bytes()[::-1]),
        "it is damaged: its SHA-256 is not the recorded one",
    ),
    "missing": (Path.unlink, "it is missing"),
    "linked": (turn_into_link, "it is a symbolic link"),
    "shared": (lambda engine: os.link(engine, engine.with_suffix(".2")), "it has another name (a hard link)"),
    "readable": (lambda engine: engine.chmod(0o640), "it is open to others (mode 0640)"),
    "pipe": (turn_into_pipe, "it is no regular file"),
    "folder": (turn_into_folder, "it cannot be read (Is a directory)"),
    "record missing": (lambda engine: record_of(engine).unlink(), "it has no record"),
    "record linked": (lambda engine: turn_into_link(record_of(engine)), "its record is a symbolic link"),
    "record shared": (
        lambda engine: os.link(record_of(engine), engine.with_suffix(".2")),
        "its record has another name (a hard link)",
    ),
    "record writable": (lambda engine: record_of(engine).chmod(0o602), "its record is open to others (mode 0602)"),
    "record truncated": (lambda engine: os.truncate(record_of(engine), 100), "its record is damaged"),
    "record edited": (lambda engine: edit_record(engine, size=1), "its record was changed, or not written here"),
    "record incomplete": (
        lambda engine: record_of(engine).write_text('{"record": {}, "seal": ""}'),
        "is of another version",
    ),
    "record of another kind": (lambda engine: record_of(engine).write_text("[1]"), "its record is of another version"),
    "record of another version": (lambda engine: edit_record(engine, more=1), "its record is of another version"),
    "secret lost": (lambda engine: engine.with_name("secret").unlink(), "its record was changed, or not written here"),
    "secret short": (lambda engine: os.truncate(engine.with_name("secret"), 0), "changed, or not written here"),
}


def engine_of(cache: EngineCache) -> Path:
    (path,) = cache.folder.glob("*.engine")
    return path


def test_an_engine_is_given_back_with_its_record(
    kept: EngineCache, key: EngineKey, record: Record, plan: bytes
) -> None:
    assert kept.load(key) == (plan, record)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_doubtful_engine_is_not_used_and_said_to_be_so(
    name: str, kept: EngineCache, key: EngineKey
) -> None:
    damage, reason = DAMAGES[name]
    damage(engine_of(kept))
    with pytest.raises(Unfit) as raised:
        kept.load(key)
    assert reason in str(raised.value)


@pytest.mark.parametrize("name", DAMAGES)
def test_what_replaces_a_damaged_engine_can_be_used(
    name: str, kept: EngineCache, key: EngineKey, record: Record, plan: bytes
) -> None:
    engine = engine_of(kept)
    DAMAGES[name][0](engine)
    if engine.is_dir():
        engine.rmdir()
    kept.store(record, plan)
    assert kept.load(key) == (plan, record)


def test_what_a_link_leads_to_is_left_alone(kept: EngineCache, record: Record, plan: bytes, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    engine = engine_of(kept)
    engine.unlink()
    engine.symlink_to(elsewhere)
    kept.store(record, plan)
    assert elsewhere.read_bytes() == b"mine"


@pytest.mark.parametrize(("suffix", "what"), [(".engine", "it"), (".json", "its record")])
def test_an_engine_that_somebody_else_owns_is_not_used(
    suffix: str, what: str, kept: EngineCache, key: EngineKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode, really = engine_of(kept).with_suffix(suffix).stat().st_ino, os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        found = really(descriptor)
        owner = found.st_uid + (found.st_ino == inode)
        return os.stat_result((*found[:4], owner, *found[5:10]))

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(Unfit, match=rf"^{what} belongs to user {os.geteuid() + 1}$"):
        kept.load(key)


def test_an_engine_with_a_record_from_another_cache_is_not_used(
    kept: EngineCache, key: EngineKey, record: Record, plan: bytes, tmp_path: Path
) -> None:
    other = EngineCache(tmp_path / "other")
    other.store(record, plan)
    for name in (f"{key.stem}.engine", f"{key.stem}.json"):
        (kept.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(Unfit, match="its record was changed, or not written here"):
        kept.load(key)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "10.12.0"},
        {"library": "tensorrt-rtx"},
        {"gpu": "another"},
        {"compute_capability": "12.0"},
        {"driver": "570.1"},
        {"profile": "1,1,1"},
        {"flags": "weak"},
        {"sample_sha256": "ef" * 32},
    ],
)
def test_an_engine_of_another_version_device_or_profile_is_not_used(
    change: dict[str, str], kept: EngineCache, key: EngineKey
) -> None:
    wanted = replace(key, **change)
    ((name, value),) = change.items()
    difference = f"{name} {getattr(key, name)} instead of {value}"
    with pytest.raises(Unfit, match=f"^those that there are were built for {difference}$"):
        kept.load(wanted)
    engine = engine_of(kept)
    record_of(engine).rename(kept.folder / f"{wanted.stem}.json")
    engine.rename(kept.folder / f"{wanted.stem}.engine")
    with pytest.raises(Unfit, match=f"^it was built for {difference}$"):
        kept.load(wanted)


def test_an_engine_of_another_model_is_not_used(kept: EngineCache, key: EngineKey) -> None:
    with pytest.raises(Unfit, match="none yet"):
        kept.load(replace(key, onnx_sha256="cd" * 32))


def test_an_empty_cache_has_no_engine_and_is_not_made_by_looking(cache: EngineCache, key: EngineKey) -> None:
    with pytest.raises(Unfit, match="none yet"):
        cache.load(key)
    assert cache.entries() == []
    assert cache.timings(key) == b""
    assert not cache.folder.exists()


def test_the_folder_and_all_in_it_are_for_the_user_alone_whatever_the_umask(
    cache: EngineCache, key: EngineKey, record: Record, plan: bytes
) -> None:
    before = os.umask(0)
    try:
        cache.store(record, plan)
        cache.store_timings(key, b"measured")
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()} == {0o600}
    assert len(list(cache.folder.iterdir())) == 4


def test_a_folder_that_others_can_write_to_is_refused(
    kept: EngineCache, key: EngineKey, record: Record, plan: bytes
) -> None:
    kept.folder.chmod(0o770)
    for use in (lambda: kept.load(key), lambda: kept.store(record, plan), kept.entries):
        with pytest.raises(BackendError, match=r"engines is open to others \(mode 0770\), but an engine is code"):
            use()


def test_a_folder_that_is_a_link_or_a_file_is_refused(kept: EngineCache, key: EngineKey, tmp_path: Path) -> None:
    kept.folder.rename(tmp_path / "real")
    kept.folder.symlink_to(tmp_path / "real")
    with pytest.raises(BackendError, match="cannot be opened as a folder"):
        kept.load(key)
    kept.folder.unlink()
    kept.folder.touch(0o600)
    with pytest.raises(BackendError, match="cannot be opened as a folder"):
        kept.load(key)


def test_a_folder_of_somebody_else_is_refused(
    kept: EngineCache, key: EngineKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(BackendError, match=f"belongs to user {me}"):
        kept.load(key)


def test_the_folder_is_where_the_base_directories_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for base, expected in (("/fast", "/fast"), ("", "/home/me/.cache"), ("relative", "/home/me/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", base)
        assert default_folder() == Path(expected) / "gtpick-rt" / "engines"


@pytest.mark.parametrize("home", [None, "", "relative", "~"])
def test_a_user_without_a_home_has_a_folder_among_temporary_files(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record, key: EngineKey, plan: bytes
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    cache = EngineCache()
    if home == "":  # as the shell has it
        assert cache.folder == Path("/.cache/gtpick-rt/engines")
        return
    assert cache.folder == tmp_path / f"gtpick-rt-{os.geteuid()}" / "engines"
    assert cache.entries() == []
    cache.store(record, plan)
    assert cache.load(key) == (plan, record)


def test_a_home_that_cannot_hold_a_folder_has_no_engines_and_is_no_danger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: EngineKey, record: Record, plan: bytes
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache = EngineCache()
    assert (cache.entries(), cache.timings(key)) == ([], b"")
    with pytest.raises(Unfit, match=r"there can be none \(Not a directory\)"):
        cache.load(key)
    with pytest.raises(OSError):
        cache.store(record, plan)


def test_entries_tell_engines_and_what_is_wrong_with_them(
    kept: EngineCache, key: EngineKey, record: Record, plan: bytes
) -> None:
    other = replace(record, key=replace(key, driver="570.1"))
    kept.store(other, plan)
    os.truncate(kept.folder / f"{other.key.stem}.engine", 3)
    (kept.folder / "stray.engine").write_bytes(b"?")
    (kept.folder / "renamed.engine").write_bytes(b"?")
    (kept.folder / "renamed.json").write_bytes((kept.folder / f"{key.stem}.json").read_bytes())
    (kept.folder / "renamed.json").chmod(0o600)
    found = {entry.file.stem: (entry.size, entry.record, entry.problem) for entry in kept.entries()}
    assert found == {
        key.stem: (256, record, ""),
        other.key.stem: (3, other, "it has 3 bytes instead of 256"),
        "stray": (1, None, "its record is missing"),
        "renamed": (1, record, "its record is that of another engine"),
    }


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"version": "11.3.0"}, "version 11.4.0.106 instead of 11.3.0"),
        ({"driver": "590.1"}, "driver 580.159 instead of 590.1"),
        ({"flags": "other"}, "flags typed instead of other"),
        ({"onnx_sha256": "cd" * 32, "driver": "590.1"}, "driver 580.159 instead of 590.1"),
        ({"onnx_sha256": "cd" * 32}, ""),
        ({"sample_sha256": "ef" * 32}, f"sample_sha256 {'cd' * 32} instead of {'ef' * 32}"),
        ({"library": "tensorrt-rtx", "version": "1.7"}, ""),
        ({"gpu": "another", "driver": "590.1"}, ""),
        ({"profile": "1,8"}, "profile 1,8,32 instead of 1,8"),
        ({"profile": str(SIDES), "driver": "590.1"}, ""),
        ({"compute_capability": "12.0", "driver": "590.1"}, ""),
    ],
    ids=str,
)
def test_a_newer_engine_of_the_same_library_and_gpu_supersedes_those_for_what_is_no_longer_in_use(
    change: dict[str, str], difference: str, kept: EngineCache, key: EngineKey, record: Record, plan: bytes
) -> None:
    newer = replace(record, key=replace(key, **change), built_at="2026-11-24T10:00:00+00:00")
    kept.store(newer, plan)
    (kept.folder / "stray.engine").write_bytes(b"?")
    old = kept.folder / f"{key.stem}.engine"
    assert superseded(kept.entries()) == ({old: difference} if difference else {})


def test_what_was_measured_serves_the_same_device_and_version_for_any_model(cache: EngineCache, key: EngineKey) -> None:
    cache.store_timings(key, b"measured")
    assert cache.timings(replace(key, onnx_sha256="cd" * 32, profile="1,1,1")) == b"measured"
    for change in ({"version": "10.12"}, {"driver": "1"}, {"gpu": "another"}):
        assert cache.timings(replace(key, **change)) == b""


def test_a_secret_that_was_cut_short_seals_nothing(
    kept: EngineCache, key: EngineKey, record: Record, plan: bytes
) -> None:
    secret = kept.folder / "secret"
    before = secret.read_bytes()
    os.truncate(secret, 0)
    kept.store(record, plan)
    assert len(secret.read_bytes()) == len(before)
    assert kept.load(key) == (plan, record)


def test_looking_changes_nothing(kept: EngineCache, key: EngineKey) -> None:
    (kept.folder / "secret").unlink()
    before = {path: path.stat().st_mtime_ns for path in kept.folder.iterdir()}
    assert kept.entries()[0].problem == "its record was changed, or not written here"
    with pytest.raises(Unfit):
        kept.load(key)
    assert {path: path.stat().st_mtime_ns for path in kept.folder.iterdir()} == before


@pytest.mark.parametrize("length", [0, 20, 39])
def test_measurements_that_are_damaged_are_forgotten(length: int, cache: EngineCache, key: EngineKey) -> None:
    cache.store_timings(key, b"measured")
    (file,) = cache.folder.glob("*.timings")
    os.truncate(file, length)
    assert cache.timings(key) == b""
