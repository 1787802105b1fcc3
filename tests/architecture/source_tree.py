"""What the architecture tests see of the source: its syntax trees, never its running code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "imglish"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """Path below the repository, for test ids and messages."""
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Dotted names of all that a module imports, wherever it stands; a relative import keeps its dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_imports(tree: ast.Module) -> list[str]:
    """What a module imports from imglish, without the leading ``imglish.``; relative imports as they are."""
    names = imported_names(tree)
    return [name.removeprefix("imglish.") for name in names if name.startswith(("imglish.", "."))]


def strangers(names: list[str], allowed: set[str]) -> list[str]:
    """Those dotted names that lie in none of the allowed packages or modules."""
    return sorted(name for name in names if not any(f"{name}.".startswith(f"{home}.") for home in allowed))


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines of a function from its first decorator to its last line."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return (function.end_lineno or first) - first + 1


def swallowed_keywords(tree: ast.Module) -> list[str]:
    """Functions that take ``**something`` and never look at it."""
    found = []
    for function in functions(tree):
        keyword = function.args.kwarg
        read = {node.id for part in function.body for node in ast.walk(part) if isinstance(node, ast.Name)}
        if keyword and keyword.arg not in read and not _is_stub(function):
            found.append(f"{function.name} in line {function.lineno}")
    return found


def import_time_effects(tree: ast.Module) -> list[str]:
    """Module-level statements that do more than define: bare calls, foreign assignments, ``try``, loops."""
    found = []
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        definition = isinstance(
            node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        )
        if docstring or definition or _is_guard(node):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign) and not _touches_others(node):
            continue
        found.append(f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")
    return found


def _is_stub(function: Function) -> bool:
    """Whether the body is a docstring, ``...`` or both."""
    return all(isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) for part in function.body)


def _is_guard(node: ast.stmt) -> bool:
    """``if TYPE_CHECKING`` and ``if __name__ == "__main__"``."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in {
        "TYPE_CHECKING",
        "__name__ == '__main__'",
    }


def _touches_others(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether an assignment sets something that is not a name of this module, or calls a setter."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if any(
        isinstance(part, ast.Attribute | ast.Subscript) for target in targets for part in ast.walk(target)
    ):
        return True
    calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
    return any(ast.unparse(call).rpartition(".")[2].startswith(("set", "seed", "enable")) for call in calls)
