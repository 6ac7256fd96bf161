"""Jobs that judge programs: MENTOR, ECLIPSE, SCRIBE, BRIDGE, FORTRESS, PHANTOM."""

from __future__ import annotations

import ast
import dis
import hashlib
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from fleetmon.demo.corpus import PYTHON_SUFFIXES
from fleetmon.demo.jobs._base import (
    Facts,
    Job,
    PythonJob,
    compile_tree,
    excerpt,
    parse,
    read_bytes,
    read_text,
)
from fleetmon.demo.jobs.code import FUNCTIONS, code_objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetmon.demo.corpus import Kind


def entropy(data: bytes | str) -> float:
    """Return Shannon's entropy, in bits a symbol."""
    total = len(data)
    counts = Counter(data).values()
    return -sum(n / total * math.log2(n / total) for n in counts) if total else 0.0


class Mentor(PythonJob):
    """Code review: habits that cost later."""

    name: ClassVar[str] = "MENTOR"
    task_types: ClassVar[tuple[str, ...]] = ("review_style", "find_dead_imports")
    longest = 60

    def review_style(self, path: Path) -> Facts:
        """Count findings by rule."""
        found: Counter[str] = Counter()
        for node in ast.walk(parse(path)):
            match node:
                case ast.ExceptHandler(type=None):
                    found["bare_except"] += 1
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found["long_function"] += (node.end_lineno or 0) - node.lineno >= self.longest
                    defaults = (*node.args.defaults, *node.args.kw_defaults)
                    found["mutable_default"] += sum(
                        isinstance(default, (ast.List, ast.Dict, ast.Set)) for default in defaults
                    )
                case ast.Compare(ops=[ast.Eq() | ast.NotEq()], comparators=[ast.Constant(None)]):
                    found["none_by_equality"] += 1
                case ast.ImportFrom(names=[ast.alias(name="*")]):
                    found["star_import"] += 1
        return {"findings": found.total(), **{rule: n for rule, n in sorted(found.items()) if n}}

    def find_dead_imports(self, path: Path) -> Facts:
        """Find imported names that the file never mentions again (in ``__init__`` they may be)."""
        imported: dict[str, int] = {}
        used: set[str] = set()
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    imported[(alias.asname or alias.name).partition(".")[0]] = node.lineno
            elif isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)  # in __all__, perhaps
        dead = sorted(set(imported) - used - {"*"})
        return {"imported": len(imported), "dead": len(dead), "names": dead[:5]}


_SWAPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE,
    ast.LtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


class Eclipse(PythonJob):
    """Testing and formal methods: does the program survive being written out; are mutants seen."""

    name: ClassVar[str] = "ECLIPSE"
    task_types: ClassVar[tuple[str, ...]] = ("verify_roundtrip", "kill_mutants")

    def verify_roundtrip(self, path: Path) -> Facts:
        """Check the law ``parse(unparse(tree)) == tree`` on an excerpt."""
        tree = excerpt(parse(path), 350)
        text = ast.unparse(tree)
        again = ast.parse(text)
        return {"statements": len(tree.body), "characters": len(text),
                "law_holds": ast.dump(again) == ast.dump(tree)}  # fmt: skip

    def kill_mutants(self, path: Path) -> Facts:
        """Turn comparisons round one at a time, and see that the bytecode tells each mutant."""
        tree = excerpt(parse(path), 200)
        original = _bytecode(tree)
        spots = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)][:6]
        killed = 0
        for spot in spots:
            kept = spot.ops
            spot.ops = [_SWAPS[type(kept[0])](), *kept[1:]]
            killed += _bytecode(tree) != original
            spot.ops = kept
        restored = _bytecode(tree) == original
        return {"mutants": len(spots), "killed": killed, "restored": restored}


def _bytecode(tree: ast.Module) -> list[bytes]:
    return [code.co_code for code in code_objects(compile_tree(tree))]


class Scribe(PythonJob):
    """Documentation: how much there is, and a reference made of it."""

    name: ClassVar[str] = "SCRIBE"
    task_types: ClassVar[tuple[str, ...]] = ("measure_docs", "render_reference")

    def measure_docs(self, path: Path) -> Facts:
        """Return the share of public names that have a docstring (ratio, 0 to 1)."""
        public = list(_public(parse(path)))
        documented = sum(ast.get_docstring(node, clean=False) is not None for _, node in public)
        ratio = round(documented / len(public), 3) if public else 1.0
        return {"public": len(public), "documented": documented, "ratio": ratio}

    def render_reference(self, path: Path) -> Facts:
        """Write a Markdown page of all public names, and check that none is missing."""
        tree = parse(path)
        page = [f"# {self.label(path)}", (ast.get_docstring(tree) or "").partition("\n")[0]]
        names = []
        for name, node in _public(tree):
            arguments = "" if isinstance(node, ast.ClassDef) else f"({ast.unparse(node.args)})"
            summary = (ast.get_docstring(node) or "*undocumented*").partition("\n")[0]
            page.append(f"## `{name}{arguments}`\n{summary}")
            names.append(name)
        text = "\n\n".join(page)
        headings = re.findall(r"^## `([\w.]+)", text, re.MULTILINE)
        return {"headings": len(headings), "characters": len(text), "complete": headings == names,
                "digest": hashlib.sha256(text.encode("utf-8",
                "replace")).hexdigest()[:16]}  # fmt: skip


def _public(
    tree: ast.Module,
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, FUNCTIONS) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


_ONE_PLATFORM = {
    "fcntl": "posix", "grp": "posix", "pwd": "posix", "resource": "posix", "termios": "posix",
    "tty": "posix", "pty": "posix", "syslog": "posix", "posix": "posix", "msvcrt": "windows",
    "winreg": "windows", "_winapi": "windows", "winsound": "windows", "nt": "windows",
    "_scproxy": "macos", "_osx_support": "macos",
}  # fmt: skip
_POSIX_CALLS = frozenset({"fork", "getuid", "geteuid", "setuid", "mkfifo", "chown", "killpg"})


class Bridge(PythonJob):
    """Cross-platform work: what ties a file to one system."""

    name: ClassVar[str] = "BRIDGE"
    task_types: ClassVar[tuple[str, ...]] = ("scan_portability", "normalize_newlines")

    def scan_portability(self, path: Path) -> Facts:
        """Find modules and calls of one platform, and checks of the platform."""
        ties: Counter[str] = Counter()
        checks = 0
        for node in ast.walk(parse(path)):
            match node:
                case ast.Import(names):
                    ties.update(_ONE_PLATFORM[a.name] for a in names if a.name in _ONE_PLATFORM)
                case ast.ImportFrom(module=str(module)) if module in _ONE_PLATFORM:
                    ties[_ONE_PLATFORM[module]] += 1
                case ast.Attribute(ast.Name("os"), attribute) if attribute in _POSIX_CALLS:
                    ties["posix"] += 1
                case ast.Attribute(ast.Name("sys"), "platform") | ast.Attribute(
                    ast.Name("os"), "name"
                ):
                    checks += 1
        return {"ties": ties.total(), "checks": checks, "portable": not ties or checks > 0, **ties}

    def normalize_newlines(self, path: Path) -> Facts:
        """Count line endings by convention, and check that conversion to CRLF and back is exact."""
        data = read_bytes(path)
        crlf = data.count(b"\r\n")
        unix = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        back = unix.replace(b"\n", b"\r\n").replace(b"\r\n", b"\n")
        lone_lf, lone_cr = data.count(b"\n") - crlf, data.count(b"\r") - crlf
        mixed = sum(map(bool, (crlf, lone_lf, lone_cr))) > 1
        return {"crlf": crlf, "lf": lone_lf, "cr": lone_cr, "mixed": mixed, "exact": back == unix}


_DANGEROUS = {
    "eval": "evaluates text", "exec": "executes text", "os.system": "shell", "os.popen": "shell",
    "pickle.load": "unpickles", "pickle.loads": "unpickles", "marshal.loads": "unmarshals",
    "yaml.load": "unsafe yaml", "tempfile.mktemp": "race", "hashlib.md5": "weak hash",
    "hashlib.sha1": "weak hash", "telnetlib.Telnet": "clear text", "ftplib.FTP": "clear text",
}  # fmt: skip
_QUOTED = re.compile(r"""["']([A-Za-z0-9+/=_\-]{20,120})["']""")
_KEY_MARK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_ASSIGNED = re.compile(
    r"(?i)\b(?:password|passwd|secret|token|api_?key)\s*[=:]\s*[\"'][^\"']+[\"']"
)


class Fortress(PythonJob):
    """Defensive security: dangerous calls, and secrets that lie about."""

    name: ClassVar[str] = "FORTRESS"
    task_types: ClassVar[tuple[str, ...]] = ("scan_vulnerabilities", "scan_secrets")

    def scan_vulnerabilities(self, path: Path) -> Facts:
        """Count calls that are dangerous with foreign input, by kind."""
        found: Counter[str] = Counter()
        first = 0
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Call):
                continue
            kind = _DANGEROUS.get(_dotted(node.func), "")
            if any(
                k.arg == "shell" and getattr(k.value, "value", 0) is True for k in node.keywords
            ):
                kind = "shell"
            if kind:
                found[kind] += 1
                first = min(first or node.lineno, node.lineno)
        return {"findings": found.total(), "first_line": first, **found}

    def scan_secrets(self, path: Path) -> Facts:
        """Count key blocks, assigned passwords and quoted text too random to be words."""
        text = read_text(path)
        random_looking = [s for s in _QUOTED.findall(text) if entropy(s) > 4.2]  # noqa: PLR2004 - English words stay below 4 bits
        return {"private_keys": len(_KEY_MARK.findall(text)),
                "assigned": len(_ASSIGNED.findall(text)), "random_looking": len(random_looking),
                "entropy": round(entropy(text), 3)}  # fmt: skip


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


class Phantom(Job):
    """Reverse engineering: what a file shows to one who has no source."""

    name: ClassVar[str] = "PHANTOM"
    task_types: ClassVar[tuple[str, ...]] = ("recover_strings", "disassemble_bytecode")
    wants: ClassVar[Kind] = "python"

    def recover_strings(self, path: Path) -> Facts:
        """Find printable runs, and the most and least random window of 256 bytes."""
        data = read_bytes(path)
        runs = re.findall(rb"[ -~]{6,}", data)
        windows = [entropy(data[at : at + 256]) for at in range(0, len(data), 1024)]
        return {"strings": len(runs), "longest": max(map(len, runs), default=0),
                "entropy_low": round(min(windows, default=0.0), 3),
                "entropy_high": round(max(windows, default=0.0), 3)}  # fmt: skip

    def disassemble_bytecode(self, path: Path) -> Facts:
        """Compile an excerpt, then learn what it calls from its bytecode alone."""
        if path.suffix not in PYTHON_SUFFIXES:
            return self.recover_strings(path)
        opcodes: Counter[str] = Counter()
        names: set[str] = set()
        for code in code_objects(compile_tree(excerpt(parse(path), 300))):
            opcodes.update(step.opname for step in dis.get_instructions(code))
            names.update(code.co_names)
        common = [opcode for opcode, _ in opcodes.most_common(3)]
        return {"instructions": opcodes.total(), "distinct": len(opcodes), "common": common,
                "names": len(names)}  # fmt: skip
