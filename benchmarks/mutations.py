"""Take away each safeguard against loss, and each around engines, in turn, in a copy of the code: do the tests notice?

Each safeguard is named with the tests that guard it, of which every file must fail. Exits with code 1 when one does
not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, circumstances, save

RUNTIME = Path("runtime/gtpick_rt")
COMMIT, PIPELINE, CHANGES = "test_commit.py", "test_pipeline.py", "arrivals/test_watched.py"
WRITERS = "arrivals/test_writers.py"
LOCK, SHARDS = "test_lock.py", "test_shards.py"
RETHRESHOLD = "../faults/test_rethreshold_kill.py"
CACHE, OBTAINING, PARITY = "engines/test_cache.py", "engines/test_obtaining.py", "test_parity.py"
DRIVER = "cluster/test_driver.py"
RUN_LOOP, CUDA = "gpu/test_run_loop.py", "gpu/test_onnxruntime_cuda.py"
NTH_CALL, KILL, POWER = "../faults/test_nth_call.py", "../faults/test_kill.py", "../faults/test_power_cut.py"


@dataclass(frozen=True)
class Mutation:
    """A safeguard that is taken away by replacing texts in one module."""

    name: str
    module: str
    replacements: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]
    """Below tests/runtime; each must fail."""


MUTATIONS = (
    Mutation("files are not synced", "commit.py", (("os.fsync(file.fileno())", "pass"),), (COMMIT, POWER)),
    Mutation(
        "folders are not synced",
        "commit.py",
        (("else data, mode)\n        _sync_folder(path.parent)", "else data, mode)"),),
        (COMMIT, POWER),
    ),
    Mutation("new folders are not synced", "commit.py", (("_sync_folder(made.parent)", "pass"),), (COMMIT, POWER)),
    Mutation(
        "files are written in place, without renaming",
        "commit.py",
        (
            ("    temporary = path.parent / f", "    temporary = path\n    _ = f"),
            ("os.O_CREAT | os.O_EXCL,", "os.O_CREAT | os.O_TRUNC,"),
            ("        temporary.replace(path)\n", ""),
        ),
        (COMMIT, KILL),
    ),
    Mutation(
        "the STAR file comes before the detections",
        "commit.py",
        (
            ("    write_atomic(detections_path(out, stem), buffer.getvalue())\n", ""),
            (
                "    return write_star(out, stem, detections, threshold, record)\n",
                "    path = write_star(out, stem, detections, threshold, record)\n"
                "    write_atomic(detections_path(out, stem), buffer.getvalue())\n    return path\n",
            ),
        ),
        (COMMIT, KILL),
    ),
    Mutation("the STAR file has no record", "commit.py", (("threshold], record)", "threshold])"),), (COMMIT, KILL)),
    Mutation(
        "what a killed run leaves is not removed",
        "output.py",
        (("        sweep(self.path)", "        pass"),),
        (PIPELINE, KILL),
    ),
    Mutation(
        "the folder is not locked",
        "lock.py",
        (
            ("fcntl.flock(self._descriptor, ", "id("),
            ("(fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB", "0"),
        ),
        (PIPELINE, LOCK, SHARDS),
    ),
    Mutation(
        "a shard is not locked",
        "shards.py",
        (("own = lock_folder(", "own = share_folder("),),
        (SHARDS,),
    ),
    Mutation(
        "a shard lets others have the folder alone",
        "shards.py",
        (("share_folder(lock_path(self.path))", 'share_folder(self._mine.with_suffix(".open"))'),),
        (SHARDS,),
    ),
    Mutation(
        "a shard does not look for those of another number",
        "shards.py",
        (("self._refuse_other_numbers()\n", "pass\n"),),
        (SHARDS,),
    ),
    Mutation(
        "a shard does not see that its lock was cleared away",
        "shards.py",
        (("if lock.is_held():", "if True:"),),
        (SHARDS,),
    ),
    Mutation(
        "shards are not looked for before the folder is taken, where there are no locks",
        "lock.py",
        (("    _look_for(sharers())\n    lock = ", "    lock = "),),
        (LOCK,),
    ),
    Mutation(
        "shards are not looked for after the folder is taken, where there are no locks",
        "lock.py",
        (("        _look_for(sharers())  #", "        pass  #"),),
        (LOCK,),
    ),
    Mutation(
        "shards do not agree on what they have measured",
        "shards.py",
        (("self.previous = self._agreed() or settings", "self.previous = settings"),),
        (SHARDS,),
    ),
    Mutation(
        "shards may differ from the picks that are there",
        "shards.py",
        (("        if self.previous is None:\n            with", "        if True:\n            with"),),
        (SHARDS,),
    ),
    Mutation("a shard holds everything", "shards.py", (("self._shard.holds(stem)", "True"),), (SHARDS,)),
    Mutation(
        "what shards could not pick is not listed",
        "shards.py",
        (("for failure in failures.values():", "for failure in ():"),),
        (SHARDS,),
    ),
    Mutation(
        "each shard writes other formats for all",
        "course.py",
        ((" if self.output.alone else ()", ""),),
        (SHARDS,),
    ),
    Mutation(
        "what shards have logged is counted in both logs",
        "following/logs.py",
        (("return before * sign >= 0", "return True"),),
        ("test_following_shards.py",),
    ),
    Mutation(
        "the output folder is not synced",
        "output.py",
        (("        make_folder(state)", "        state.mkdir(parents=True, exist_ok=True)"),),
        (POWER,),
    ),
    Mutation(
        "the errors of the disk are left to Pillow",
        "reading/tiff.py",
        (("if witness.error is not None", "if False"),),
        (NTH_CALL,),
    ),
    Mutation("the index is not reconciled", "journal.py", (("self._reconcile()", "pass"),), (PIPELINE, KILL)),
    Mutation(
        "what is about to be rewritten is not doubted in the index",
        "output.py",
        (("self._journal.doubt(record.stem for record in todo)", "None"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "what is doubted is not read again",
        "journal.py",
        (("there - (known - doubted.keys())", "there - known"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "formats are not due after rewriting",
        "output.py",
        (("self.conversion.with_due(self.conversion.single)", "self.conversion"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "formats of another box size are not due",
        "formats/writing.py",
        (("due=self.with_due(asked.single).due", "due=self.due"),),
        (RETHRESHOLD,),
    ),
    Mutation(
        "formats stay due no longer than until they are looked at",
        "converting.py",
        (
            (
                "    lists = output.conversion.lists\n",
                "    lists, due_now = output.conversion.lists, output.conversion.due\n",
            ),
            ("name in output.conversion.due", "name in due_now"),
            (
                "    extent, failures = ",
                "    output.convert_to(replace(output.conversion, due=()))\n    extent, failures = ",
            ),
        ),
        (RETHRESHOLD,),
    ),
    Mutation(
        "lists are not written when a format cannot be",
        "rethresholding.py",
        (("    finally:\n", "    except ZeroDivisionError:\n        raise\n    else:\n"),),
        ("test_rethreshold.py",),
    ),
    Mutation(
        "kept detections are read in several threads at a time",
        "commit.py",
        (("with _PARSING, np.load", "with np.load"),),
        (COMMIT,),
    ),
    Mutation(
        "a file is not looked at again after reading",
        "stages.py",
        (("stamp_if_there(job.path) != item.stamp", "False"),),
        (PIPELINE,),
    ),
    Mutation(
        "a file need not settle",
        "arrivals/ready.py",
        (("            if now >= self._due:", "            if True:"),),
        (CHANGES, WRITERS),
    ),
    Mutation(
        "blank pixels are not looked for", "arrivals/ready.py", (("part = _blank_part(path)", 'part = ""'),), (WRITERS,)
    ),
    Mutation(
        "the size in the header is not compared",
        "reading/mrc.py",
        (("size < needed", "False"),),
        (WRITERS, "test_reading.py"),
    ),
    Mutation(
        "an engine of another key is used", "engines/cache.py", (("if record.key != key:", "if False:"),), (CACHE,)
    ),
    Mutation(
        "the size of an engine is not compared",
        "engines/cache.py",
        (("if len(plan) != record.size:", "if False:"),),
        (CACHE, OBTAINING),
    ),
    Mutation(
        "the hash of an engine is not compared",
        "engines/cache.py",
        (("if hashlib.sha256(plan).hexdigest() != record.sha256:", "if False:"),),
        (CACHE, OBTAINING),
    ),
    Mutation(
        "the seal of a record is not compared",
        "engines/cache.py",
        (("if not _holds(folder, seal, _canonical(content)):", "if False:"),),
        (CACHE, OBTAINING),
    ),
    Mutation(
        "the seal of what builds measured is not compared",
        "engines/cache.py",
        (('return measured if _holds(folder, seal, measured) else b""', "return measured"),),
        (CACHE,),
    ),
    Mutation(
        "any secret is good enough", "engines/cache.py", ((" if len(secret) == _SEAL_BYTES else None", ""),), (CACHE,)
    ),
    Mutation("links to engines are followed", "engines/cache.py", ((" | os.O_NOFOLLOW", ""),), (CACHE,)),
    Mutation(
        "pipes are opened as engines are", "engines/cache.py", (("not stat.S_ISREG(found.st_mode)", "False"),), (CACHE,)
    ),
    Mutation(
        "engines of other users are used",
        "engines/cache.py",
        (("found.st_uid != os.geteuid():\n                raise Unfit", "False:\n                raise Unfit"),),
        (CACHE,),
    ),
    Mutation(
        "engines that are open to others are used",
        "engines/cache.py",
        (("found.st_mode & _OTHERS:\n                raise Unfit", "False:\n                raise Unfit"),),
        (CACHE, OBTAINING),
    ),
    Mutation("engines with another name are used", "engines/cache.py", (("found.st_nlink != 1", "False"),), (CACHE,)),
    Mutation(
        "a folder of another user is used",
        "engines/cache.py",
        (("found.st_uid != os.geteuid():\n                raise self", "False:\n                raise self"),),
        (CACHE,),
    ),
    Mutation(
        "a folder that is open to others is used",
        "engines/cache.py",
        (("found.st_mode & _OTHERS:\n                raise self", "False:\n                raise self"),),
        (CACHE, "test_doctor.py"),
    ),
    Mutation(
        "the folder of engines is made as the umask allows",
        "engines/cache.py",
        (("mkdir(_FOLDER_MODE", "mkdir(0o777"),),
        (CACHE,),
    ),
    Mutation(
        "files of the cache are made as the umask allows",
        "engines/cache.py",
        (("_FILE_MODE, _OTHERS = 0o700, 0o600,", "_FILE_MODE, _OTHERS = 0o700, 0o666,"),),
        (CACHE,),
    ),
    Mutation(
        "an engine need not pick as the reference does",
        "engines/obtaining.py",
        (("if not parity.holds:", "if False:"),),
        (OBTAINING,),
    ),
    Mutation("an engine serves any GPU", "engines/obtaining.py", (("gpu=gpu.name,", 'gpu="",'),), (OBTAINING,)),
    Mutation(
        "an engine serves any driver", "engines/obtaining.py", (("driver=gpu.driver,", 'driver="",'),), (OBTAINING,)
    ),
    Mutation(
        "an engine serves any model",
        "engines/obtaining.py",
        (("onnx_sha256=hashlib.sha256(content).hexdigest(),", 'onnx_sha256="",'),),
        (OBTAINING, "test_doctor.py"),
    ),
    Mutation(
        "an engine that was proved on another sample is used",
        "engines/obtaining.py",
        (("sample_sha256=sample_sha256(),", 'sample_sha256="",'),),
        (OBTAINING, "test_doctor.py"),
    ),
    Mutation(
        "some picks may drift in half precision too",
        "parity.py",
        (("return self.drift_px <= MAX_DRIFT_PX and ", "return "),),
        (PARITY, "../export/test_parity.py"),
    ),
    Mutation(
        "all picks may drift a little in half precision",
        "parity.py",
        ((" and self.usual_drift_px <= MAX_USUAL_DRIFT_PX", ""),),
        (PARITY,),
    ),
    Mutation(
        "every backend is judged as one in bfloat16",
        "parity.py",
        (("in_bfloat16=candidate.name in BFLOAT16", "in_bfloat16=True"),),
        (PARITY,),
    ),
    Mutation(
        "in bfloat16 picks may drift as they like",
        "parity.py",
        (("return self.usual_drift_px <= MAX_DRIFT_PX", "return True"),),
        (PARITY,),
    ),
    Mutation(
        "more picks may drift in bfloat16 than be missed",
        "parity.py",
        (("np.quantile(drifts_px, MIN_AGREEMENT,", "np.quantile(drifts_px, 0.99,"),),
        (PARITY,),
    ),
    Mutation(
        "the median drift is taken for the largest",
        "parity.py",
        (("float(drifts_px.max(initial=0))", "float(np.median([0, *drifts_px]))"),),
        (PARITY,),
    ),
    Mutation("picks may drift twice as far", "parity.py", (("MAX_DRIFT_PX = 0.25", "MAX_DRIFT_PX = 0.5"),), (PARITY,)),
    Mutation("picks may be missed", "parity.py", (("self.agreement >= MIN_AGREEMENT and ", ""),), (PARITY,)),
    Mutation("fewer picks need agree", "parity.py", (("MIN_AGREEMENT = 0.995", "MIN_AGREEMENT = 0.99"),), (PARITY,)),
    Mutation("rows may differ", "parity.py", ((" and self.rows_alike\n", "\n"),), (PARITY, "../export/test_parity.py")),
    Mutation(
        "a backend need not pick as the reference does",
        "backends/proving.py",
        (("if not parity.holds:", "if False:"),),
        ("test_openvino.py",),
    ),
    Mutation(
        "a proof by another sample counts",
        "backends/proving.py",
        (("(model_sha256, sample_sha256(), ", "(model_sha256, "),),
        ("test_openvino.py",),
    ),
    Mutation(
        "a half-precision file of another model is run",
        "backends/onnx_file.py",
        (("if spec != half_spec:", "if False:"),),
        ("gpu/test_opening.py",),
    ),
    Mutation(
        "ONNX Runtime may fall back to the CPU",
        "backends/onnxruntime_cuda.py",
        (("if self._session.get_providers()[0] != _PROVIDER:", "if False:"),),
        (CUDA,),
    ),
    Mutation(
        "the CUDA backend is not proved",
        "backends/onnxruntime_cuda.py",
        (('        prove_once(self, model, f"{onnxruntime.__version__}, {device_identity()}")\n', ""),),
        (CUDA,),
    ),
    Mutation(
        "what CUDA returns is not checked",
        "backends/cuda.py",
        (("if status == self._cudart.cudaError_t.cudaSuccess:", "if True:"),),
        (RUN_LOOP,),
    ),
    Mutation(
        "what TensorRT returns is not checked",
        "backends/tensorrt.py",
        (("if result is not None and result is not False:", "if True:"),),
        (RUN_LOOP,),
    ),
    Mutation(
        "answers are read before they are there",
        "backends/tensorrt.py",
        (("        self._loaded.cuda.synchronize(self._stream)\n        return", "        return"),),
        (RUN_LOOP,),
    ),
    Mutation(
        "a batch is put into buffers that are in flight",
        "backends/tensorrt.py",
        (("if len(in_flight) == _LANES:", "if False:"),),
        (RUN_LOOP,),
    ),
    Mutation(
        "a graph is captured without a run before",
        "backends/tensorrt.py",
        (("            self._enqueue()  # the first run of a shape allocates, which a capture cannot\n", ""),),
        (RUN_LOOP,),
    ),
    Mutation(
        "a capture that failed hides why",
        "backends/cuda.py",
        (("with suppress(BackendError):", "with suppress():"),),
        (RUN_LOOP,),
    ),
    Mutation(
        "sampling without interpolation is built",
        "engines/inspecting.py",
        (('if layer.kind == "GRID_SAMPLE" and layer.interpolation == "NEAREST":', "if False:"),),
        ("engines/test_building.py",),
    ),
    Mutation(
        "a file that only claims to be in half precision is built",
        "engines/inspecting.py",
        (("share < MIN_HALF_SHARE", "False"),),
        ("engines/test_building.py",),
    ),
    Mutation(
        "TensorRT may choose its precisions",
        "engines/building.py",
        (("return 0 if flag is None else 1 << int(flag)", "return 0"),),
        ("engines/test_building_scripted.py",),
    ),
    Mutation(
        "coordinates may be computed in TF32",
        "engines/building.py",
        (("    config.clear_flag(trt.BuilderFlag.TF32)", "    "),),
        ("engines/test_building_scripted.py",),
    ),
    Mutation(
        "a refused backend passes `export --parity`",
        "../../export/gtpick_export/commands.py",
        (("[name] if isinstance(error, UnlikeError) else []", "[]"),),
        ("../export/test_command.py",),
    ),
    Mutation(
        "workers: they write though another run holds the folder",
        "cluster/session.py",
        (("return holder(lock_path(self.recipe.out)) == self.recipe.holder", "return True"),),
        (DRIVER,),
    ),
    Mutation(
        "workers: none is watched over",
        "cluster/session.py",
        (("with session.watchdog.watching():", "if True:"),),
        (DRIVER,),
    ),
    Mutation(
        "workers: an innocent micrograph is blamed for its worker's death",
        "cluster/driver.py",
        (("self._deaths[job] += deaths", "self._deaths[job] += 3 * deaths"),),
        (DRIVER,),
    ),
    Mutation(
        "workers: one that is unfit stays",
        "cluster/crew.py",
        (("        worker.unfit += 1\n", ""),),
        (DRIVER,),
    ),
    Mutation(
        "workers: a full disk is not waited for",
        "cluster/driver.py",
        (("self._course.when_possible(self._course.output.probe)", "pass"),),
        (DRIVER,),
    ),
    Mutation(
        "workers: whoever reaches the scheduler is let in",
        "cluster/starting.py",
        (
            ("    security = Security.temporary()\n", "    security = Security()\n"),
            ('"protocol": "tls", "port": 0', '"protocol": "tcp", "port": 0'),
            ('            "protocol": "tls",\n', '            "protocol": "tcp",\n'),
        ),
        ("cluster/test_starting.py",),
    ),
    Mutation(
        "workers: jobs that Slurm has lost are not replaced",
        "cluster/slurm.py",
        (("        self._cluster.scale(self._jobs)\n", ""),),
        ("cluster/test_slurm.py",),
    ),
    Mutation(
        "workers: a partition may be anything",
        "cluster/places.py",
        (('_check("--partition", self.partition, _WORD, "gpu")', "pass"),),
        ("cluster/test_places.py",),
    ),
)


def mutated(mutation: Mutation, copy: Path) -> None:
    """Make a copy of the project without this safeguard."""
    for name in ("runtime", "export", "gtpick_model", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    path = copy / RUNTIME / mutation.module
    text = path.read_text()
    for old, new in mutation.replacements:
        if text.count(old) != 1:
            sys.exit(f"{mutation.module}: {old!r} is there {text.count(old)} times; correct the mutation")
        text = text.replace(old, new)
    path.write_text(text)


def outcome(copy: Path, test: str) -> str:
    """Which test of this file fails first, or "" when all pass."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(copy / name) for name in ("runtime", "export", ""))}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"tests/runtime/{test}"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode > 1 or bool(done.returncode) != bool(failed):
        sys.exit(f"{' '.join(command)}: cannot be run\n{done.stdout}{done.stderr}")
    return failed[0].partition("::")[2] if failed else ""


def main() -> None:
    """Mutate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose name holds this text; nothing is written")
    only = parser.parse_args().only
    results: list[dict[str, Any]] = []
    for mutation in (mutation for mutation in MUTATIONS if only in mutation.name):
        with tempfile.TemporaryDirectory() as folder:
            mutated(mutation, Path(folder))
            for test in mutation.tests:
                failed = outcome(Path(folder), test)
                results.append({"mutation": mutation.name, "test": test, "fails": failed})
                print(f"{mutation.name:45} {test:28} {failed or 'NOT NOTICED'}", flush=True)
    if not only:
        save("mutations", circumstances(["python", *sys.argv]) | {"results": results})
    if not all(result["fails"] for result in results):
        sys.exit("a safeguard is not guarded")


if __name__ == "__main__":
    main()
