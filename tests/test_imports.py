"""The import law: a room imports itself and the rooms above it in one list, never one below."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tau2_exp"

ROOMS = (
    "types",
    "codec",
    "jsonl",
    "config",
    "interfaces",
    "plugins",
    "statistics",
    "system",
    "protocols",
    "llm",
    "domains",
    "learning",
    "runs",
    "users",
    "policies",
    "rollouts",
    "serve",
    "engines.torch",
    "engines.slime.plan",
    "engines.slime.hooks",
    "engines.slime.cluster",
    "compose",
    "evaluation",
    "dispatch",
    "report",
    "stages",
    "api",
    "__main__",
)

# These answer at once, on machines where nothing heavy is installed.
LIGHT = (
    "types",
    "codec",
    "jsonl",
    "config",
    "interfaces",
    "plugins",
    "system",
    "engines.slime.plan",
    "compose",
    "dispatch",
    "api",
)
HEAVY = (
    "torch",
    "transformers",
    "litellm",
    "wandb",
    "inspect_ai",
    "inspect_evals",
    "tau2",
    "pydantic",
    "rich",
    "httpx",
    "plotly",
    "ray",
    "submitit",
    "starlette",
    "uvicorn",
)
# Light rooms import these where they are needed, within functions.
ON_DEMAND = ("dispatch.local.board", "dispatch.slurm.stage_job")


def module_name(path: Path) -> str:
    """`runs.run`, relative to the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if module == room or module.startswith(f"{room}.")), None)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FACES = {"__init__", "engines", "engines.slime"}  # packages that hold rooms, and nothing of their own


def imports(path: Path, lazily: bool = True) -> set[str]:
    """Dotted names that a file imports; without `lazily` only those that importing the file imports."""
    names: set[str] = set()
    nodes = [ast.parse(path.read_text())]
    while nodes:
        for node in ast.iter_child_nodes(nodes.pop()):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif lazily or not (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_for_types(node)):
                nodes.append(node)
    return names


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def our_modules(names: set[str]) -> set[str]:
    """The modules of the package among imported names, which may also be things within modules."""
    ours = {name.removeprefix("tau2_exp.") for name in names if name.startswith("tau2_exp.")}
    return {name if name in FILES else name.rpartition(".")[0] or "__init__" for name in ours}


@pytest.mark.parametrize("module", sorted(FILES.keys() - FACES))
def test_a_room_imports_only_rooms_above_it(module: str) -> None:
    room = room_of(module)
    assert room, f"{module} is in no room: give it a place in ROOMS"
    above = ROOMS[: ROOMS.index(room) + 1]
    below = {name for name in our_modules(imports(FILES[module])) if name not in FACES and room_of(name) not in above}
    assert not below, f"{module} imports {', '.join(sorted(below))}, which stand below it"


def test_packages_that_hold_rooms_import_nothing() -> None:
    assert not any(imports(FILES[name]) for name in FACES & FILES.keys())


@pytest.mark.parametrize("module", [name for name in FILES if room_of(name) in LIGHT])
def test_light_rooms_import_nothing_heavy(module: str) -> None:
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        found = imports(FILES[name], lazily=False)
        heavy = {top for top in (text.split(".")[0] for text in found) if top in HEAVY}
        assert not heavy or name == module in ON_DEMAND, f"{name}, which {module} imports, imports {', '.join(heavy)}"
        waiting += our_modules(found) - seen


@pytest.mark.parametrize("name", ["types", "interfaces", "codec", "jsonl"])
def test_the_base_is_the_standard_library(name: str) -> None:
    tops = {module.split(".")[0] for module in imports(FILES[name])}
    assert tops <= {*sys.stdlib_module_names, "tau2_exp"}


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]], ids=" ".join)
def test_run_py_answers_without_heavy_libraries(arguments: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['run.py', *{arguments!r}]\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
