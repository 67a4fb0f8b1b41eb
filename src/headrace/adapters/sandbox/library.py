"""The files that a confined program may read: the standard library, time zones, and the operator's packages.

The kernel allows them to be opened (`landlock`), but a confined process may not inspect files by name. Imports do that
often, so such calls are answered from a table that is built before the confinement.
"""

from __future__ import annotations

import errno
import glob
import os
import stat as modes
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from headrace.adapters.sandbox.landlock import READ_FILE, READ_FOLDER

_NOT_STANDARD = ("site-packages", "dist-packages")
_NOT_LISTED = {"__pycache__", "test", *_NOT_STANDARD}
_ZONES = "/usr/share/zoneinfo"
# shared libraries that extension modules of packages may need
_LIBRARIES = ("/lib/*-linux-gnu", "/usr/lib/*-linux-gnu", "/lib64", "/usr/lib64", "/usr/local/lib/*-linux-gnu")
_SINGLE_LIBRARIES = ("/lib", "/usr/lib", "/usr/local/lib")


class Library:
    """The standard library of this interpreter, a folder of packages, if any, and single files."""

    def __init__(self, packages: str | None = None, files: Sequence[str] = ()) -> None:
        paths = sysconfig.get_paths()
        self._standard = list(dict.fromkeys((paths["stdlib"], paths["platstdlib"])))
        self._packages = packages
        self._single = list(files)

    @property
    def folders(self) -> list[str]:
        """The folders that modules are imported from, all of whose files are in the table."""
        return [*self._standard, *([self._packages] if self._packages else []), _ZONES]

    def readable(self) -> Iterator[tuple[str, int]]:
        """Paths and Landlock's rights to them, without the packages installed beside the standard library."""
        for folder in self._standard:
            for entry in os.scandir(folder):
                if entry.name not in _NOT_STANDARD:
                    yield entry.path, _right(entry.path)
        yield _ZONES, READ_FILE | READ_FOLDER
        for path in self._single:
            yield path, READ_FILE
        if self._packages:
            yield self._packages, READ_FILE | READ_FOLDER
            yield "/etc/ld.so.cache", READ_FILE
            for folder in [folder for pattern in _LIBRARIES for folder in glob.glob(pattern)]:
                yield folder, _right(folder)
            for folder in (*_SINGLE_LIBRARIES, os.path.join(sys.base_prefix, "lib")):
                for path in glob.glob(os.path.join(folder, "lib*.so*")):
                    yield path, _right(path)

    def open_to_others(self) -> bool:
        """Whether every user of the system may read it, by the modes of its folders."""
        folders = [*self._standard, *([self._packages] if self._packages else [])]
        return all(_open_to_others(folder) for folder in folders)

    def use(self) -> None:
        """Restricts imports to these folders, and answers calls about their files from the table."""
        folders = {os.path.join(folder, name) for folder in self._standard for name in ("", "lib-dynload")}
        folders = {folder.rstrip("/") for folder in folders}
        sys.path[:] = [path for path in sys.path if path in folders]
        if self._packages:
            sys.path.append(self._packages)
        for path in [path for path in sys.path_importer_cache if path not in sys.path]:
            if not any(path.startswith(folder) for folder in self.folders):
                del sys.path_importer_cache[path]
        _answer_from(_Files(self.folders, self._single))


def _right(path: str) -> int:
    return READ_FILE | READ_FOLDER if os.path.isdir(path) else READ_FILE


def _open_to_others(folder: str) -> bool:
    path: str = os.path.realpath(folder)
    if not os.stat(path).st_mode & modes.S_IROTH:
        return False
    while True:
        if not os.stat(path).st_mode & modes.S_IXOTH:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


class _Files:
    """The files and folders by path, and the names in each folder."""

    def __init__(self, folders: Iterable[str], single: Iterable[str]) -> None:
        self.folders = tuple(folders)
        self._below = tuple(folder + "/" for folder in self.folders)
        self._known: dict[str, os.stat_result] = {}
        self._names: dict[str, list[str]] = {}
        for path in single:
            self._known[path] = os.stat(path)
        waiting = list(self.folders)
        for folder in waiting:
            try:
                self._known[folder] = os.stat(folder)
                entries = [entry for entry in os.scandir(folder) if entry.name not in _NOT_LISTED]
            except OSError:
                continue  # does not exist here
            names = self._names[folder] = list[str]()
            for entry in entries:
                try:
                    if entry.is_dir():
                        waiting.append(entry.path)
                    else:
                        self._known[entry.path] = entry.stat()
                except OSError:
                    continue  # a broken link
                names.append(entry.name)

    def stat(self, path: Any) -> os.stat_result | None:
        """None if the path is outside the folders; FileNotFoundError if there is no such file."""
        text = self._inside(path)
        if text is None:
            return None
        if text not in self._known:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._known[text]

    def names(self, path: Any) -> list[str] | None:
        """The names in a folder; None if it is outside the folders."""
        text = self._inside(path)
        return None if text is None else self._names.get(text)

    def _inside(self, path: str | bytes | os.PathLike[str]) -> str | None:
        try:
            text = os.fspath(path)
        except TypeError:
            return None  # a descriptor, or not a path
        if not isinstance(text, str):
            return None
        if text not in self._known:
            text = os.path.normpath(text)
        return text if text in self._known or text.startswith(self._below) else None


class _Entry:
    """Like `os.DirEntry`."""

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self.path = os.path.join(folder, name)

    def __fspath__(self) -> str:
        return self.path

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self.path, follow_symlinks=follow_symlinks)

    def inode(self) -> int:
        return self.stat().st_ino

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return modes.S_ISDIR(self.stat().st_mode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return modes.S_ISREG(self.stat().st_mode)

    def is_symlink(self) -> bool:
        return False


class _Scan:
    """Like the result of `os.scandir`."""

    def __init__(self, folder: str, names: Iterable[str]) -> None:
        self._entries = iter([_Entry(folder, name) for name in names])

    def __iter__(self) -> Iterator[_Entry]:
        return self._entries

    def __next__(self) -> _Entry:
        return next(self._entries)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


def _answer_from(files: _Files) -> None:
    """Patches `os` and the import system to use these files. It is for convenience only: the kernel protects files."""

    def answered(real: Any) -> Any:
        def look(path: Any, *, dir_fd: int | None = None, **how: Any) -> os.stat_result:
            status = files.stat(path) if dir_fd is None else None
            return real(path, dir_fd=dir_fd, **how) if status is None else status

        return _named(look, real)

    def listing(path: Any = ".") -> Any:
        names = files.names(path)
        return real_listdir(path) if names is None else list(names)

    def scanning(path: Any = ".") -> Any:
        names = files.names(path)
        return real_scandir(path) if names is None else _Scan(str(path), names)

    real_listdir, real_scandir = cast("tuple[Any, Any]", (os.listdir, os.scandir))
    table: dict[str, Any] = {
        "stat": answered(os.stat),
        "lstat": answered(os.lstat),
        "listdir": _named(listing, real_listdir),
        "scandir": _named(scanning, real_scandir),
    }
    for name, result in table.items():
        for names in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if getattr(os, name) in names:
                names.add(result)
    posix = sys.modules["posix"]  # which the import system uses
    for name, result in table.items():
        setattr(os, name, result)
        setattr(posix, name, result)


def _named(function: Any, real: Any) -> Any:
    function.__name__ = function.__qualname__ = real.__name__
    function.__doc__ = real.__doc__
    return function
