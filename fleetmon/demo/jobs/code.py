"""Jobs that take programs apart and put them together: APEX, ARCHITECT, MORPH, CORE, FORGE."""

from __future__ import annotations

import ast
import graphlib
import hashlib
import marshal
import operator
from collections import OrderedDict
from types import CodeType
from typing import TYPE_CHECKING, ClassVar

from fleetmon.demo.jobs._base import Facts, PythonJob, compile_tree, excerpt, parse, read_bytes
from fleetmon.demo.jobs._graphs import components

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert,
    ast.comprehension, ast.match_case,
)  # fmt: skip


def complexities(tree: ast.AST) -> list[tuple[int, str]]:
    """Return McCabe's cyclomatic complexity and the name of each function, inner ones apart."""
    found: list[tuple[int, str]] = []
    pending: list[tuple[ast.AST, int]] = [(tree, -1)]
    while pending:
        node, owner = pending.pop()
        if isinstance(node, FUNCTIONS):
            found.append((1, node.name))
            owner = len(found) - 1
        elif owner >= 0 and isinstance(node, (*_BRANCHES, ast.BoolOp)):
            extra = len(node.values) - 1 if isinstance(node, ast.BoolOp) else 1
            if isinstance(node, ast.comprehension):
                extra += len(node.ifs)
            found[owner] = (found[owner][0] + extra, found[owner][1])
        pending.extend((child, owner) for child in ast.iter_child_nodes(node))
    return found


class Apex(PythonJob):
    """Computer science engineering: which functions are too complex."""

    name: ClassVar[str] = "APEX"
    task_types: ClassVar[tuple[str, ...]] = ("review_complexity", "rank_functions")
    limit = 10

    def prepare(self) -> None:
        """Start with an empty table of the worst."""
        self._worst: list[tuple[int, str]] = []

    def review_complexity(self, path: Path) -> Facts:
        """Measure each function and count those above the limit."""
        found = complexities(parse(path))
        worst = max(found, default=(0, ""))
        over = sum(score > self.limit for score, _ in found)
        mean = round(sum(score for score, _ in found) / len(found), 2) if found else 0.0
        return {"functions": len(found), "mean": mean, "worst": worst[1], "max": worst[0],
                "over_limit": over}  # fmt: skip

    def rank_functions(self, path: Path) -> Facts:
        """Enter this file's functions into the table of the 100 most complex so far."""
        mine = {(score, f"{self.label(path)}:{name}") for score, name in complexities(parse(path))}
        self._worst = sorted(mine.union(self._worst), reverse=True)[:100]
        entered = [place for place, row in enumerate(self._worst, 1) if row in mine]
        return {
            "functions": len(mine),
            "in_table": len(entered),
            "best_rank": min(entered, default=0),
        }


def imported_modules(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the dotted names that a module of ``package`` imports, relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *filter(None, [node.module])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


class ImportGraphJob(PythonJob):
    """What ARCHITECT and FORGE share: the graph of who imports whom, bounded."""

    limit = 1_024

    def prepare(self) -> None:
        """Know the corpus' modules by name."""
        self.graph: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._known = {self.module_of(path) for path in self.corpus.sources}

    def module_of(self, path: Path) -> str:
        """Return the dotted name of a file below the corpus."""
        parts = self.label(path).removesuffix(path.suffix).split("/")
        return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)

    def learn(self, path: Path) -> tuple[str, frozenset[str]]:
        """Put a module and the corpus' modules that it imports into the graph."""
        module = self.module_of(path)
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        targets = frozenset(imported_modules(parse(path), package)) & self._known - {module}
        self.graph[module] = targets
        self.graph.move_to_end(module)
        while len(self.graph) > self.limit:
            self.graph.popitem(last=False)
        return module, targets


class Architect(ImportGraphJob):
    """Systems architecture: who depends on whom, and where in circles."""

    name: ClassVar[str] = "ARCHITECT"
    task_types: ClassVar[tuple[str, ...]] = ("map_imports", "find_cycles")

    def map_imports(self, path: Path) -> Facts:
        """Enter a module; report its coupling as far as it is known."""
        module, targets = self.learn(path)
        afferent = sum(module in others for others in self.graph.values())
        coupling = afferent + len(targets)
        instability = round(len(targets) / coupling, 3) if coupling else 0.0
        return {"module": module, "imports": len(targets), "imported_by": afferent,
                "instability": instability, "modules_known": len(self.graph)}  # fmt: skip

    def find_cycles(self, path: Path) -> Facts:
        """Find the circles among the known modules, and prove that nothing else is circular."""
        module, _ = self.learn(path)
        groups = components(self.graph)
        rings = [group for group in groups if len(group) > 1]
        home = {member: index for index, group in enumerate(groups) for member in group}
        between: dict[int, set[int]] = {index: set() for index in range(len(groups))}
        for source, targets in self.graph.items():
            here = home[source]
            between[here].update(home[t] for t in targets if t in home and home[t] != here)
        graphlib.TopologicalSorter(between).prepare()  # raises if the condensation has a cycle
        mine = next((len(ring) for ring in rings if module in ring), 0)
        return {"module": module, "cycles": len(rings), "in_cycle_of": mine,
                "largest": max(map(len, rings), default=0),
                "condensation_acyclic": True}  # fmt: skip


class Forge(ImportGraphJob):
    """Build systems: what to build again, and in which order."""

    name: ClassVar[str] = "FORGE"
    task_types: ClassVar[tuple[str, ...]] = ("fingerprint_target", "plan_build")
    limit = 512

    def prepare(self) -> None:
        """Start with an empty cache."""
        super().prepare()
        self._built: dict[str, bytes] = {}

    def fingerprint_target(self, path: Path) -> Facts:
        """Hash a module with the fingerprints of what it imports; say whether it must be built."""
        module, targets = self.learn(path)
        digest = hashlib.sha256(read_bytes(path, -1))
        for target in sorted(targets):
            digest.update(target.encode("utf-8", "replace") + self._built.get(target, b""))
        before = self._built.pop(module, None)
        self._built[module] = digest.digest()
        if len(self._built) > self.limit:
            self._built.pop(next(iter(self._built)))
        state = "cached" if before == digest.digest() else "stale" if before else "new"
        return {"module": module, "inputs": len(targets), "state": state,
                "fingerprint": digest.hexdigest()[:16]}  # fmt: skip

    def plan_build(self, path: Path) -> Facts:
        """Order the known modules so that each comes after its imports, circles as one target."""
        self.learn(path)
        groups = components(self.graph)
        home = {member: index for index, group in enumerate(groups) for member in group}
        needs = {
            index: {home[t] for m in group for t in self.graph[m] if t in home} - {index}
            for index, group in enumerate(groups)
        }
        sorter = graphlib.TopologicalSorter(needs)
        sorter.prepare()
        step: dict[int, int] = {}
        steps = widest = 0
        while sorter.is_active():
            ready = sorter.get_ready()
            steps, widest = steps + 1, max(widest, len(ready))
            step.update(dict.fromkeys(ready, steps))
            sorter.done(*ready)
        ordered = all(step[need] < step[index] for index in needs for need in needs[index])
        return {"targets": len(needs), "steps": steps, "widest_step": widest, "ordered": ordered}


class _Moderniser(ast.NodeTransformer):
    """Rewrites idioms that newer Python spells shorter, where the meaning cannot change."""

    def __init__(self) -> None:
        self.changes: dict[str, int] = {}

    def _count(self, what: str) -> None:
        self.changes[what] = self.changes.get(what, 0) + 1

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Drop ``object`` from the bases."""
        self.generic_visit(node)
        kept = [b for b in node.bases if not (isinstance(b, ast.Name) and b.id == "object")]
        if len(kept) < len(node.bases):
            self._count("object_base")
            node.bases = kept
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Write ``set([...])`` as ``{...}``, and drop the mode from ``open(name, "r")``."""
        self.generic_visit(node)
        match node:
            case ast.Call(ast.Name("set"), [ast.List(elts=[_, *_] as elts)], []):
                self._count("set_of_list")
                return ast.Set(elts)
            case ast.Call(ast.Name("open"), [first, ast.Constant("r")], keywords):
                self._count("open_mode_r")
                return ast.Call(node.func, [first], keywords)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Write ``not a in b`` as ``a not in b``, and likewise for ``is``."""
        self.generic_visit(node)
        match node:
            case ast.UnaryOp(ast.Not(), ast.Compare(left, [ast.In()], right)):
                self._count("not_in")
                return ast.Compare(left, [ast.NotIn()], right)
            case ast.UnaryOp(ast.Not(), ast.Compare(left, [ast.Is()], right)):
                self._count("is_not")
                return ast.Compare(left, [ast.IsNot()], right)
        return node


class Morph(PythonJob):
    """Code migration: old idioms found, and rewritten."""

    name: ClassVar[str] = "MORPH"
    task_types: ClassVar[tuple[str, ...]] = ("migrate_syntax", "find_legacy_idioms")

    def find_legacy_idioms(self, path: Path) -> Facts:
        """Count the idioms that could be rewritten."""
        rewrite = _Moderniser()
        rewrite.visit(parse(path))
        return {"idioms": sum(rewrite.changes.values()), **rewrite.changes}

    def migrate_syntax(self, path: Path) -> Facts:
        """Rewrite an excerpt, write it out, and check that nothing is left to rewrite in it."""
        tree = excerpt(parse(path), 500)
        first, again = _Moderniser(), _Moderniser()
        text = ast.unparse(ast.fix_missing_locations(first.visit(tree)))
        again.visit(ast.parse(text))
        return {"idioms": sum(first.changes.values()), "characters": len(text),
                "left": sum(again.changes.values())}  # fmt: skip


_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.BitOr: operator.or_, ast.BitAnd: operator.and_, ast.BitXor: operator.xor,
}  # fmt: skip


class Core(PythonJob):
    """Compilers: to bytecode, and constants folded as the compiler would."""

    name: ClassVar[str] = "CORE"
    task_types: ClassVar[tuple[str, ...]] = ("compile_module", "fold_constants")

    def compile_module(self, path: Path) -> Facts:
        """Compile an excerpt, and check that the code survives being written and read."""
        code = compile_tree(excerpt(parse(path), 900))
        objects = list(code_objects(code))
        read = list(code_objects(marshal.loads(marshal.dumps(code))))  # noqa: S302 - our own bytes
        same = [c.co_code for c in objects] == [c.co_code for c in read]
        return {"code_objects": len(objects), "bytecode": sum(len(c.co_code) for c in objects),
                "deepest_stack": max(c.co_stacksize for c in objects),
                "survives": same}  # fmt: skip

    def fold_constants(self, path: Path) -> Facts:
        """Fold arithmetic on whole numbers, and check each result against the compiler's."""
        folded = agreed = 0
        for node in ast.walk(parse(path)):
            match node:
                case ast.BinOp(ast.Constant(int(left)), op, ast.Constant(int(right))) if (
                    type(op) in _ARITHMETIC
                ):
                    folded += 1
                    value = _ARITHMETIC[type(op)](left, right)
                    code = compile(ast.unparse(node), "<fold>", "eval", dont_inherit=True)
                    agreed += value == eval(code, {})  # noqa: S307 - two whole numbers, as matched
        return {"folded": folded, "agreed": agreed}


def code_objects(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)
