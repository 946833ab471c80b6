"""A results file of τ²-bench, read and checked: one file, the folder of 1.0, or a bare list of simulations."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from tau2_exp.codec import encode
from tau2_exp.config import TASK_REVISION, ConfigError
from tau2_exp.domains import ProviderError, TauDomain, load_domain
from tau2_exp.domains.domain import NAMES
from tau2_exp.domains.tasks import read_tasks
from tau2_exp.evaluation.records import MOST, UNKNOWN, Info, read_record
from tau2_exp.evaluation.results_format import from_simulation
from tau2_exp.types import Role, Task, Trajectory

DEEPEST = 100  # levels of nested JSON; τ²-bench's own files have about ten
VARIANTS = {"telecom-workflow": "telecom"}  # the same tasks and tools, and another policy for the agent
_NAMED = 5  # tasks in a message
T = TypeVar("T")


@dataclass(frozen=True)
class ResultsFile:
    """One results file. `data` is what it holds, whole; the other fields are what of it is used."""

    path: Path
    digest: str  # of its bytes
    data: dict[str, Any]
    info: Info
    domain: TauDomain
    tasks: dict[str, Task]
    revision: str  # ours where its tasks are ours, else what the file says of itself
    trajectories: tuple[Trajectory, ...]

    @property
    def trials(self) -> list[int]:
        """The numbers of all trials that were planned or are in the file, sorted."""
        return sorted({t.sample for t in self.trajectories} | set(range(self.info.num_trials or 0)))

    @property
    def others(self) -> dict[str, str]:
        """By `Task.key`, a digest of each task that differs from ours of the same id."""
        ours = _known(self.domain, set(self.tasks))
        return {task.key: _digest(task) for task in self.tasks.values() if task != ours.get(task.id)}


def _digest(task: Task) -> str:
    return hashlib.sha256(json.dumps(encode(task), sort_keys=True).encode()).hexdigest()[:8]


def read_results(path: Path) -> ResultsFile:
    """A results file, read and checked. Raises ConfigError in one line, naming the file and what is wrong with it."""
    try:
        content, data = _load(path)
        return _read(path, hashlib.sha256(content).hexdigest(), data)
    except (ValueError, ProviderError) as problem:
        raise ConfigError(f"{path}: cannot be imported: {problem}") from None


def load_json(content: bytes | str) -> Any:
    """JSON that the rest of the system can keep. Raises ValueError in one line."""
    try:
        data = json.loads(content, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"not JSON: {problem}") from None
    level, depth = [data], 0
    while level := [child for value in level for child in _children(value)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
    return data


def _no_number(word: str) -> Any:
    raise ValueError(f"not JSON: {word} is no number")


def _children(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _load(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes, and results in the form of one file, wherever the simulations are kept."""
    file = path / "results.json" if path.is_dir() else path
    content = file.read_bytes()
    data = load_json(content)
    if isinstance(data, list):
        return content, {"simulations": data}
    if not isinstance(data, dict):
        raise ValueError(f"expected an object or a list of simulations, got {type(data).__name__}")
    if "info" not in data:
        raise ValueError("no 'info'")
    if "simulations" in data and not (path.is_dir() and not data["simulations"]):
        return content, data
    paths = sorted(file.with_name("simulations").glob("*.json"))
    index = data.get("simulation_index")
    if not paths:
        if isinstance(index, list):
            raise ValueError("its simulations are kept in a folder simulations/ beside it, which is not there")
        raise ValueError("no 'simulations'")
    if isinstance(index, list) and len(index) != len(paths):
        raise ValueError(f"it lists {len(index)} simulations, and the folder simulations/ holds {len(paths)}")
    contents = [path.read_bytes() for path in paths]
    return b"\n".join([content, *contents]), {**data, "simulations": [load_json(one) for one in contents]}


def _read(path: Path, digest: str, data: dict[str, Any]) -> ResultsFile:
    info = _at("info", read_record, Info, data.get("info") or {})
    data = {**data, "simulations": _numbered(data["simulations"])}
    domain = _domain(info, data["simulations"])
    trajectories = tuple(
        _at(f"simulations.{place}", from_simulation, record, domain.name)
        for place, record in enumerate(data["simulations"])
    )
    own = None if data.get("tasks") is None else _tasks(domain, data["tasks"])
    tasks = _known(domain, {t.task for t in trajectories}) if own is None else own
    _check(info, tasks, trajectories)
    return ResultsFile(path, digest, data, info, domain, tasks, _revision(info, domain, own), trajectories)


def _at(where: str, read: Callable[..., T], *arguments: Any) -> T:
    try:
        return read(*arguments)
    except ValueError as problem:
        raise ValueError(f"{where}.{problem}") from None


def _numbered(records: Any) -> list[dict[str, Any]]:
    """The simulations; those that do not tell their trial are numbered in the order in which they stand."""
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("simulations: expected a list of objects")
    if not records:
        raise ValueError("holds no simulations")
    records = [{**record, "trial": _number(record.get("trial"))} for record in records]
    told = {(str(record.get("task_id")), record["trial"]) for record in records if isinstance(record["trial"], int)}
    numbered, free = [], dict[str, int]()
    for record in records:
        if record.get("trial") is None:
            task = str(record.get("task_id"))
            trial = next(n for n in count(free.get(task, 0)) if (task, n) not in told)
            free[task] = trial + 1
            record = {**record, "trial": trial}
        numbered.append(record)
    return numbered


def _number(trial: Any) -> Any:
    """A trial's number, where it is one in text; what else stands there is refused where it is read."""
    return int(trial) if isinstance(trial, str) and trial.isascii() and trial.isdigit() else trial


def _tasks(domain: TauDomain, records: Any) -> dict[str, Task]:
    if not isinstance(records, list):
        raise ValueError("tasks: expected a list")
    tasks: dict[str, Task] = {}
    for place, record in enumerate(records):
        try:
            tasks |= read_tasks(domain.name, [{**record, "id": str(record["id"])}])
        except KeyError as problem:
            raise ValueError(f"tasks.{place}: no {problem}") from None
        except (ValueError, TypeError, AttributeError) as problem:
            raise ValueError(f"tasks.{place}: {problem}") from None
    return tasks


def _known(domain: TauDomain, ids: set[str]) -> dict[str, Task]:
    """Our tasks of these ids, as far as there are some."""
    found = {}
    for task in sorted(ids):
        with suppress(ValueError):
            found[task] = domain.task(task)
    return found


def _domain(info: Info, records: Sequence[dict[str, Any]]) -> TauDomain:
    name = info.environment_info.domain_name
    if name != UNKNOWN:
        return load_domain(VARIANTS.get(name, name))
    ids = {str(record.get("task_id")) for record in records}
    holding = [domain for domain in map(_available, NAMES) if domain and len(_known(domain, ids)) == len(ids)]
    called = {name for record in records for name in _called(record)}
    fitting = [domain for domain in holding if called and called <= _tools(domain)] or holding
    if len(fitting) != 1:
        several = " and ".join(domain.name for domain in fitting) or "none"
        wanted = '{"info": {"environment_info": {"domain_name": …}}, "simulations": […]}'
        raise ValueError(f"it does not say its domain, and its tasks and calls fit {several}; write {wanted}")
    return fitting[0]


def _available(name: str) -> TauDomain | None:
    try:
        return load_domain(name)
    except ProviderError:
        return None


def _called(record: dict[str, Any]) -> list[str]:
    messages = [m for m in record.get("messages") or () if isinstance(m, dict)]
    return [str(call.get("name")) for m in messages for call in m.get("tool_calls") or () if isinstance(call, dict)]


def _tools(domain: TauDomain) -> set[str]:
    return {schema["function"]["name"] for role in (Role.ASSISTANT, Role.USER) for schema in domain.schemas(role)}


def _revision(info: Info, domain: TauDomain, tasks: dict[str, Task] | None) -> str:
    theirs = f"tau2-bench@{(info.git_commit or UNKNOWN)[:7]}"
    if tasks is None:
        return theirs
    return TASK_REVISION if tasks == _known(domain, set(tasks)) else f"{theirs}, other tasks"


def _check(info: Info, tasks: dict[str, Task], trajectories: Sequence[Trajectory]) -> None:
    lost = dict.fromkeys(t.key for t in trajectories if t.task not in tasks)
    if lost:
        named = ", ".join([*lost][:_NAMED]) + ", …" * (len(lost) > _NAMED)
        raise ValueError(f"it has simulations of {len(lost)} tasks that are not among its tasks: {named}")
    (trial, times), *_ = Counter((t.key, t.sample) for t in trajectories).most_common(1)
    if times > 1:
        raise ValueError(f"holds a trial of a task twice: {trial[0]}, trial {trial[1]}")
    if (planned := (info.num_trials or 1) * len(tasks)) > MOST:
        raise ValueError(f"num_trials {info.num_trials} of {len(tasks)} tasks are {planned} episodes, above {MOST}")
