"""The import law of the architecture: data flows one way, and imports point along it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tau2_exp"
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

BASE = {"types", "codec", "config", "jsonl", "commands"}
SETTINGS = {"config", "codec", "config_check", "compose", "compose_errors", "address", "help"}
SCIENCE = {"protocol", "reward", "advantage", "curriculum", "batch", "metrics", "statistics"}
TALK = {
    "secrets",
    "retry",
    "replies",
    "budget",
    "completion",
    "wording",
}  # what users and policies say, and how they ask for it
RECORD = {"standing", "manifest", "logger", "rundir", "report"}
ACTORS = {"domains", "users", "policies"}

MAY_IMPORT = {
    "types": set(),
    "commands": set(),
    "processes": set(),
    "codec": set(),
    "allocation": {"config"},
    "jsonl": set(),
    "config": {"codec"},
    **dict.fromkeys(SETTINGS - {"config", "codec"}, SETTINGS),
    "config_check": SETTINGS | {"engines"},  # of them PLANS alone
    **dict.fromkeys(SCIENCE, BASE | SCIENCE),
    **dict.fromkeys(TALK, BASE | TALK),
    **dict.fromkeys(ACTORS, BASE | SCIENCE | TALK | ACTORS),
    "episode": BASE | {"protocol"},
    "rollout": BASE | {"episode"},
    "scenery": BASE | SCIENCE | TALK | ACTORS | RECORD | {"episode", "rollout"},
    "engines": BASE
    | SCIENCE
    | TALK
    | ACTORS
    | RECORD
    | {"episode", "rollout", "scenery", "engines", "allocation", "processes"},
    **dict.fromkeys(RECORD, BASE | RECORD | {"statistics", "secrets"}),
    "evaluation": BASE | {"statistics"},
    "report": BASE | RECORD | {"statistics", "reward", "advantage", "domains", "address", "dispatch", "evaluation"},
    "results_format": BASE | {"domains"},
    "exchange": BASE | SETTINGS | RECORD | {"domains", "evaluation", "results_format"},
    "merge": BASE | RECORD | {"address", "evaluation"},
    "replay": BASE | {"domains", "results_format"},
    "workspace": BASE | RECORD | {"dispatch", "secrets"},
    "stages": BASE
    | SCIENCE
    | TALK
    | ACTORS
    | RECORD
    | {"episode", "rollout", "scenery", "evaluation", "engines", "stages"},
    "dispatch": BASE | SETTINGS | RECORD | {"allocation", "dispatch", "engines", "processes"},  # of engines PLANS alone
    "serve": BASE | RECORD | {"allocation", "processes"},
    "__main__": {
        "config",
        "dispatch",
        "engines",
        "exchange",
        "merge",
        "replay",
        "report",
        "rundir",
        "serve",
        "stages",
        "workspace",
    },
}

# What turns settings into commands: it imports settings and itself, and nothing that is heavy.
PLANS = {"arguments", "check", "flags", "layout", "model", "places", "plan", "rules"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_imported(path: Path) -> set[str]:
    ours = (name.split(".") for name in imported(path) if name.startswith("tau2_exp."))
    return {parts[1] for parts in ours if (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists()}


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    here = room(path)
    assert here in MAY_IMPORT, f"{here} is a new room: say in this test what it may import"
    assert rooms_imported(path) <= MAY_IMPORT[here] | {here}


PLANNERS = [PACKAGE / "config_check.py", *PACKAGE.glob("dispatch/*.py"), *PACKAGE.glob("dispatch/slurm/*.py")]
PLANNERS += [PACKAGE / f"engines/slime/{name}.py" for name in sorted(PLANS)]


@pytest.mark.parametrize("path", [path for path in PLANNERS if path.exists()], ids=lambda path: path.stem)
def test_plans_stand_apart_from_the_engines_that_run(path: Path) -> None:
    of_engines = {name.split(".", 2)[2] for name in imported(path) if name.startswith("tau2_exp.engines.")}
    assert {name.split(".")[1] for name in of_engines} <= PLANS


@pytest.mark.parametrize("name", ["types", "codec", "jsonl"])
def test_the_base_is_the_standard_library(name: str) -> None:
    tops = {module.split(".")[0] for module in imported(PACKAGE / f"{name}.py")}
    assert tops <= set(sys.stdlib_module_names)


def test_run_py_imports_settings_and_dispatch_only() -> None:
    assert rooms_imported(ROOT / "run.py") <= SETTINGS | {"dispatch"}


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
