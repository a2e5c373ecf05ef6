"""Which files in a folder are micrographs, by suffix and name, and how folders and patterns are
searched for them.
"""

import fnmatch
import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gtpick_rt.errors import UsageError
from gtpick_rt.files.shared import paths_below
from gtpick_rt.reading.info import SUFFIXES
from gtpick_rt.records import Failure

DEFAULT_EXCLUDES = (
    "*_noDW.mrc",  # RELION: the sum without dose weighting, beside the weighted one
    "*_DWS.mrc",  # MotionCor2 and 3: the weighted sum of only some frames, beside _DW.mrc
    "*_EVN.mrc",  # RELION, MotionCor2 and 3: the sums of every other frame, made for denoising
    "*_ODD.mrc",
    "*_even.mrc",  # the same halves, as other programs spell them
    "*average/even/*",  # the same halves, in the folders of Warp
    "*average/odd/*",
    "*_PS.mrc",  # RELION: the power spectrum from which the CTF is estimated
    "*powerspectrum/*",  # Warp's
    "*_ctf.mrc",  # what pipelines call the diagnostic spectrum of CTFFIND and Gctf
    "*_ctf_diag_2D.mrc",  # cryoSPARC's
    "*_background.mrc",  # cryoSPARC: the smooth background that it subtracts
    "*.tmp.mrc",  # temporary names that keep the suffix
)
"""Images that motion correction writes beside the micrographs. Left in on purpose: MotionCor2's
plain names and cryoSPARC's *_patch_aligned.mrc, unweighted sums where there is a weighted one too,
but elsewhere all there is."""

_WILD = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Names:
    """Choice of files by globs, in which * matches also /.

    Each is matched with the path below the searched folder and with the bare name, in any case.
    """

    include: tuple[str, ...] = ()
    """Where there are any, a file must match one of them."""
    exclude: tuple[str, ...] = DEFAULT_EXCLUDES
    """And none of these."""

    def admits(self, relative: str) -> bool:
        """Tell whether the file `relative`, a path below the searched folder, is chosen."""
        name = relative.rpartition("/")[2]
        wanted = not self.include or self._included.match(relative) or self._included.match(name)
        return bool(wanted) and not (self._excluded.match(relative) or self._excluded.match(name))

    @cached_property
    def _included(self) -> re.Pattern[str]:
        return _any_of(self.include)

    @cached_property
    def _excluded(self) -> re.Pattern[str]:
        return _any_of(self.exclude)


DEFAULT_NAMES = Names()


def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    nothing = r"(?!)"
    return re.compile("|".join(map(fnmatch.translate, globs)) or nothing, re.IGNORECASE)


def _is_wild(parts: tuple[str, ...]) -> bool:
    """Whether the last of these parts of a path has a wildcard, and is not the very name of a
    folder or file.
    """
    return bool(_WILD.search(parts[-1])) and not os.path.lexists(Path(*parts))


def is_pattern(text: str) -> bool:
    """Tell whether `text` has a wildcard, in a part that is not the very name of a folder."""
    return any(_is_wild(parts) for parts in _heads(Path(text)))


def _heads(path: Path) -> list[tuple[str, ...]]:
    """The parts of a path up to the first, to the second, ..."""
    return [path.parts[: index + 1] for index in range(len(path.parts))]


class Folder:
    """The images of one folder, and `recursive`: below it.

    Links to folders are not followed, those to files are.

    `excluded` counts the files that `names` has left out, `links` the links to folders that were
    met.
    """

    def __init__(self, root: Path, recursive: bool, names: Names) -> None:
        self.root, self._recursive, self._names = root, recursive, names
        self.excluded = self.links = 0
        self._passed_over: set[str] = set()
        self._cut = len(_join(str(root), ""))

    def relative(self, path: str) -> str:
        """What follows the root in a path that was found."""
        return path[self._cut :]

    def search(self, known: Container[str] = (), resting: Container[str] = ()) -> tuple[list[str], list[Failure]]:
        """List the paths of the images, in a stable order, and the folders that cannot be listed.

        Left out are paths that are `known`, and all in folders that are `resting`.
        """
        found, failures = list[str](), list[Failure]()
        pending, visited = [str(self.root)], set[tuple[int, int]]()
        while pending:
            folder = pending.pop()
            if folder in resting:
                continue
            try:
                status = os.stat(folder)  # noqa: PTH116 - many, so without an object for each
                if (status.st_dev, status.st_ino) not in visited:  # a folder can be mounted inside itself
                    visited.add((status.st_dev, status.st_ino))
                    files, folders = self._look(folder, known)
                    found += sorted(files)
                    pending += sorted(folders, reverse=True)
            except FileNotFoundError:
                continue  # removed just now
            except OSError as error:
                failures.append(_unlisted(folder, self.relative(folder) or ".", error))
        return found, failures

    def _look(self, folder: str, known: Container[str]) -> tuple[list[str], list[str]]:
        """The new images in `folder`, and its subfolders."""
        files, folders = list[str](), list[str]()
        with os.scandir(folder) as entries:
            for entry in entries:
                path = _join(folder, entry.name)
                if entry.name.startswith(".") or path in known or path in self._passed_over:
                    continue
                if _is_folder(entry):
                    folders += [path] if self._recursive else []
                elif not _is_image(entry.name):
                    if self._recursive and entry.is_symlink():
                        self._passed_over.add(path)
                        self.links += os.path.isdir(path)  # noqa: PTH112 - of any link, be it a loop
                elif self._names.admits(self.relative(path)):
                    files.append(path)
                else:
                    self._passed_over.add(path)
                    self.excluded += 1
        return files, folders


class Pattern:
    """The images that a glob matches, in which ** stands for folders at any depth.

    It has what `Folder` has.
    """

    def __init__(self, pattern: Path, names: Names) -> None:
        self._pattern, self._names = pattern, names
        first = next(index for index, parts in enumerate(_heads(pattern)) if _is_wild(parts))
        self.root = Path(*pattern.parts[:first])
        self._wild = str(Path(*pattern.parts[first:]))
        self.excluded = self.links = 0
        self._passed_over: set[str] = set()
        self._cut = len(_join(str(self.root), ""))

    def relative(self, path: str) -> str:
        """What follows the root, the last folder without a wildcard, in a path that was found."""
        return path[self._cut :]

    def search(self, known: Container[str] = (), resting: Container[str] = ()) -> tuple[list[str], list[Failure]]:
        """List as `Folder.search` does. Raises UsageError when the pattern is impossible."""
        if str(self.root) in resting:
            return [], []
        try:
            return sorted(self._matches(known)), []
        except OSError as error:
            return [], [_unlisted(str(self.root), ".", error)]
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"{str(self._pattern)!r}: cannot be searched ({error}); correct the pattern") from error

    def _matches(self, known: Container[str]) -> Iterator[str]:
        for match in paths_below(self.root, self._wild):
            path = str(match)
            if path in known or path in self._passed_over:
                continue
            relative = self.relative(path)
            hidden = any(part.startswith(".") for part in relative.split("/"))
            if hidden or not _is_image(match.name) or os.path.isdir(path):  # noqa: PTH112 - be it forbidden
                continue
            if self._names.admits(relative):
                yield path
            else:
                self._passed_over.add(path)
                self.excluded += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder and no link; a file whose kind the system does not tell is none."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _join(folder: str, name: str) -> str:
    """As pathlib spells it, but fast: a file in the current folder has its bare name."""
    return name if folder == "." else f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"


def _is_image(name: str) -> bool:
    """Tell images by their suffix: names that copying programs use until a file is whole (.part, ~)
    have another.
    """
    return name.lower().endswith(SUFFIXES)


def _unlisted(folder: str, stem: str, error: OSError) -> Failure:
    message = f"{folder}: the folder cannot be listed: {error.strerror}"
    return Failure(stem=stem, path=folder, kind="UnreadableError", message=message)
