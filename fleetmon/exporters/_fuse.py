"""Tracks a filesystem built on fusepy's ``Operations`` or those of its fork mfusepy.

fusepy dispatches every call through ``Operations.__call__``, mfusepy since 3.0 looks the methods
up itself and warns about operations that can be called. What both do is to get the method from the
object, so that is where the tracked ones are put: on the object, its class is left alone.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from fleetmon.errors import SpecError
from fleetmon.exporters._ledger import Ledger
from fleetmon.exporters._outcome import ERROR, MISS, SUCCESS, of_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetmon.exporters._ledger import Measure

_log = logging.getLogger("fleetmon.exporters")

OPERATIONS: Final = (
    *("access", "chmod", "chown", "copy_file_range", "create", "fallocate", "flush", "fsync"),
    *("fsyncdir", "getattr", "getxattr", "ioctl", "link", "listxattr", "lock", "lseek", "mkdir"),
    *("mknod", "open", "opendir", "read", "read_buf", "readdir", "readdir_with_offset"),
    *("readlink", "release", "releasedir", "removexattr", "rename", "rmdir", "setxattr", "statfs"),
    *("symlink", "truncate", "unlink", "utimens", "write", "write_buf"),
)
# After these the object's size is looked at again. Some filesystems write late: at flush, fsync
# or release.
_CHANGING: Final = frozenset(
    {"create", "fallocate", "flush", "fsync", "mknod", "release", "truncate", "unlink", "write"}
    | {"write_buf"}
)


class Book(Protocol):
    """What the tracking tells."""

    def fuse(self, operation: str, seconds: float) -> None:
        """Book one call of the filesystem."""

    def operation(self, operation: str, status: str, seconds: float) -> None:
        """Book a call in which bytes moved, or should have."""


class Tracked:
    """The tracking of one filesystem.

    Attributes:
        totals: gives bytes and objects held.
    """

    def __init__(self, operations: Any, book: Book, measure: Measure | None) -> None:
        """Replace the methods of ``operations`` by tracked ones.

        Raises:
            SpecError: the object takes no attributes, or gets calls without paths.
        """
        self._book = book
        self._ledger = Ledger()
        self._looking = threading.Lock()
        self._inside = threading.local()
        self._getattr: Callable[..., Any] = operations.getattr
        self._counted = measure is None
        self.totals: Measure = self._ledger.totals if measure is None else measure
        if measure is None and getattr(operations, "flag_nullpath_ok", False):
            raise SpecError(
                "flag_nullpath_ok: without paths the objects cannot be told apart; leave it off, "
                "or hand over measure="
            )
        for name in OPERATIONS:
            method = getattr(operations, name, None)
            if callable(method) and not getattr(method, "libfuse_ignore", False):
                self._replace(operations, name, self._track(name, method))

    @staticmethod
    def _replace(operations: Any, name: str, method: Callable[..., Any]) -> None:
        try:
            setattr(operations, name, method)
        except AttributeError as error:
            raise SpecError(
                f"{type(operations).__name__} takes no attribute {name!r}; give the class a "
                "__dict__ (no __slots__)",
                field=name,
                value=operations,
            ) from error

    def hook(
        self,
        operations: Any,
        on_init: Callable[[], object] | None,
        on_destroy: Callable[[], object] | None,
    ) -> None:
        """Do things in ``init`` and ``destroy``: libfuse forks between mounting and ``init``."""
        name = "init"
        late = getattr(operations, "init_with_config", None)
        if callable(late) and not getattr(late, "libfuse_ignore", False):
            name = "init_with_config"  # mfusepy calls one of them
        first = _own(operations, name)
        last = _own(operations, "destroy")
        lister = _Lister(operations)

        def init(*args: Any) -> Any:
            result = first(*args)
            if self._counted:
                _quietly(lambda: self._seed(lister))
            if on_init is not None:
                _quietly(on_init)
            return result

        def destroy(*args: Any) -> Any:
            if on_destroy is not None:
                _quietly(on_destroy)
            return last(*args)

        self._replace(operations, name, init)
        self._replace(operations, "destroy", destroy)

    def _track(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        inside, book = self._inside, self._book

        @functools.wraps(method)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            if getattr(inside, "busy", False):  # the filesystem's own use of itself
                return method(*args, **kwargs)
            inside.busy = True
            began = time.perf_counter()
            result: Any = None
            failure: BaseException | None = None
            try:
                result = method(*args, **kwargs)
            except BaseException as error:
                failure = error
                raise
            else:
                return result
            finally:
                seconds = time.perf_counter() - began
                try:
                    book.fuse(name, seconds)
                    self._moved(name, seconds, result, failure)
                    if self._counted:
                        self._changed(name, args)
                except Exception:  # noqa: BLE001 - measuring never harms the measured
                    _log.exception("the call %s of a filesystem could not be booked", name)
                finally:
                    inside.busy = False

        return tracked

    def _moved(self, name: str, seconds: float, result: Any, failure: BaseException | None) -> None:
        """Book as store, retrieve or delete where bytes really moved, or failed to."""
        if name in {"write", "write_buf"}:
            operation, moved = "store", isinstance(result, int) and result > 0
        elif name in {"read", "read_buf"}:
            operation, moved = "retrieve", bool(result)
        elif name == "unlink":
            operation, moved = "delete", True
        else:
            return
        code = getattr(failure, "errno", None)
        if isinstance(result, int) and result < 0:  # a negative errno, handed back
            failure, code = OSError(-result, ""), -result
        if failure is None:
            if moved:
                self._book.operation(operation, SUCCESS, seconds)
            return
        status = of_error(failure)
        if operation == "retrieve" and status == ERROR and code == errno.ENOENT:
            status = MISS
        self._book.operation(operation, status, seconds)

    def _changed(self, name: str, args: tuple[Any, ...]) -> None:
        if name in _CHANGING or (name == "open" and _truncates(args[1])):
            self._look(args[0])
        elif name == "link":
            self._look(args[1])
            self._look(args[0])
        elif name == "copy_file_range":
            for path in args:
                if isinstance(path, str):
                    self._look(path)
        elif name == "rename":
            self._renamed(args[0], args[1])

    def _look(self, path: str) -> int:
        """Take the object's size from the filesystem itself; return the mode, 0 for nothing.

        One look at a time: of two changes at once, the later look sees both.
        """
        with self._looking:
            try:
                found = self._getattr(path, None)
            except OSError:
                found = None
            if not isinstance(found, dict):
                self._ledger.drop(path)
                return 0
            mode = int(found.get("st_mode", 0))
            if stat.S_ISREG(mode):
                links, inode = found.get("st_nlink", 1), found.get("st_ino", 0)
                shared = inode if links > 1 and inode else None
                self._ledger.put(path, int(found.get("st_size", 0)), shared)
            else:
                self._ledger.drop(path)
            return mode

    def _renamed(self, old: str, new: str) -> None:
        if stat.S_ISDIR(self._look(new)):
            if not self._look(old):
                with self._looking:
                    self._ledger.move_below(f"{old}/", f"{new}/")
        else:
            self._look(old)

    def _seed(self, lister: _Lister) -> None:
        self._inside.busy = True
        try:
            for path in lister.walk("/", self._look):
                self._look(path)
        finally:
            self._inside.busy = False


class _Lister:
    """Lists what is there when the filesystem is mounted, through its own untracked methods."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations

    def walk(self, top: str, look: Callable[[str], int]) -> Iterator[str]:
        for name in self._names(top):
            path = f"{top.rstrip('/')}/{name}"
            if stat.S_ISDIR(look(path)):
                yield from self.walk(path, look)
            else:
                yield path

    def _names(self, path: str) -> list[str]:
        operations = self._operations
        opened = getattr(operations, "opendir", None)
        usable = not getattr(opened, "libfuse_ignore", False)
        handle = opened(path) if callable(opened) and usable else 0
        try:
            entries = operations.readdir(path, handle)
            names = [entry if isinstance(entry, str) else entry[0] for entry in entries]
        finally:
            if usable:
                _own(operations, "releasedir")(path, handle)
        return [name for name in names if name not in {".", ".."}]


def _truncates(flags: Any) -> bool:
    flags = getattr(flags, "flags", flags)  # a fuse_file_info, with raw_fi
    return isinstance(flags, int) and bool(flags & os.O_TRUNC)


def _own(operations: Any, name: str) -> Callable[..., Any]:
    """Return the filesystem's own method, or one that does nothing."""
    method = getattr(operations, name, None)
    if callable(method) and not getattr(method, "libfuse_ignore", False):
        return method  # type: ignore[no-any-return] # of a class that we do not know
    return lambda *_: None


def _quietly(what: Callable[[], object]) -> None:
    try:
        what()
    except Exception:  # noqa: BLE001 - measuring never harms the measured
        _log.exception("while a tracked filesystem was mounted or unmounted")
