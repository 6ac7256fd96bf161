"""Parses YAML through its node graph, whose marks tell the line of every value."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

from fleetmon.errors import RosterError

if TYPE_CHECKING:
    from pathlib import Path

Place = tuple[str | int, ...]

_MAX_NODES = 200_000
_MAX_DEPTH = 32


def parse_yaml(path: Path, text: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """Return the document's values and the line (from 1) on which each begins.

    Raises:
        RosterError: PyYAML is missing, or the text is not YAML, or it means something else than
            its author can have wanted (a key twice, a number that YAML 1.1 reads as octal).
    """
    try:
        # Any: clean with and without the stubs, which are another distribution.
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        reason = "reading YAML needs PyYAML; install fleetmon[yaml], or write the roster as TOML"
        raise RosterError(reason, path=str(path)) from error
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            walker = _Walker(path, loader)
            values = {} if root is None else walker.convert(root, ())
        finally:
            loader.dispose()
    except RecursionError as error:
        reason = "is nested too deeply to be read; flatten it"
        raise RosterError(reason, path=str(path)) from error
    except yaml.reader.ReaderError as error:
        line: int | None = text.count("\n", 0, error.position) + 1
        reason = f"a character that YAML forbids ({error.reason}); remove it"
        raise RosterError(reason, path=str(path), line=line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = f"{error.problem or error.context}; correct the YAML there"
        # At the end of the stream the mark is past the last line.
        last = text.count("\n", 0, len(text.rstrip())) + 1
        line = None if mark is None else min(mark.line + 1, last)
        raise RosterError(reason, path=str(path), line=line) from error
    if not isinstance(values, dict):
        reason = "the file must be a mapping with a list called 'agents'; add that key"
        raise RosterError(reason, path=str(path), line=1)
    return values, walker.lines


class _Walker:
    """Turns nodes into plain values, noting lines; bounded, whatever the aliases multiply to."""

    def __init__(self, path: Path, loader: Any) -> None:
        self.path = path
        self.loader = loader
        self.lines: dict[Place, int] = {}
        self._nodes = 0

    def convert(self, node: Any, place: Place) -> Any:
        """Return the value of ``node``, noting the line of everything in it."""
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(place) > _MAX_DEPTH:
            self._fail(node, "too many or too deeply nested values (aliases count each time)")
        self.lines.setdefault(place, node.start_mark.line + 1)
        if node.id == "mapping":
            return self._mapping(node, place)
        if node.id == "sequence":
            return [self.convert(child, (*place, i)) for i, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: Any, place: Place) -> dict[Any, Any]:
        own = [id(key) for key, _ in node.value]
        self.loader.flatten_mapping(node)
        result: dict[Any, Any] = {}
        seen = set()
        for key_node, child in node.value:
            if key_node.id != "scalar":
                self._fail(key_node, "a key must be plain text; simplify it")
            key = self._scalar(key_node)
            if id(key_node) in own and key in seen:
                self._fail(key_node, f"the key {key!r:.60} is there twice; drop one")
            if id(key_node) in own:
                seen.add(key)
            # A key brought in by '<<' comes first, and the mapping's own one replaces it.
            inner = (*place, key)
            self.lines[inner] = key_node.start_mark.line + 1
            result[key] = self.convert(child, inner)
        return result

    def _scalar(self, node: Any) -> Any:
        if node.tag == "tag:yaml.org,2002:int" and re.fullmatch(r"0[0-7_]+", node.value):
            # YAML 1.1: 010 is eight. Nobody who numbers agents means that.
            self._fail(node, f"YAML reads {node.value} as octal; drop the leading zero or quote it")
        try:
            value = self.loader.construct_object(node, deep=True)
        except (ValueError, OverflowError) as error:
            self._fail(node, f"{error}; quote it if it is text")
        if isinstance(value, bool) and node.value.lower() not in {"true", "false"}:
            self._fail(node, f"YAML reads {node.value} as true/false; put it in quotes")
        return value

    def _fail(self, node: Any, reason: str) -> Any:
        line = node.start_mark.line + 1
        raise RosterError(reason, path=str(self.path), line=line)
