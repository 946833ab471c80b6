"""A dotted path → what it names, checked. Whatever is wrong with it becomes one line."""

from __future__ import annotations

import difflib
import importlib
import inspect
import traceback
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, get_type_hints

from tau2_exp.config import ConfigError
from tau2_exp.plugins.doors import protocol_of


class PluginError(Exception):
    """A plugin raised an error or returned something invalid; the message names its setting and path."""


@cache
def load(key: str, path: str) -> Any:
    """Import what `path` (module:name) names and check it by the protocol of the setting `key`. Raises ConfigError."""
    given = f"{key}={path}"
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name.isidentifier():
        raise ConfigError(f"{given}: must be module:name, such as my_pkg.module:{_example(key)}")
    module = import_module(module_name, given)
    if not hasattr(module, name):
        close = difflib.get_close_matches(name, [known for known in vars(module) if known[0] != "_"], n=1)
        raise ConfigError(f"{given}: {module_name} has no {name}{f'; did you mean {close[0]}?' if close else ''}")
    found = getattr(module, name)
    if reason := _why_not(found, protocol_of(key)):
        raise ConfigError(f"{given}: {reason}; it must be {_shape(protocol_of(key), name)}")
    return found


def import_module(name: str, given: str) -> ModuleType:
    """Import a user's module. Raises ConfigError, which begins with `given`, where it is missing or raises."""
    importlib.invalidate_caches()  # it may have been written a moment ago
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            where = "the current folder, PYTHONPATH and the installed packages were searched"
            raise ConfigError(f"{given}: there is no module {error.name} ({where})") from None
        raise ConfigError(f"{given}: importing {name} raised {in_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{given}: importing {name} raised {in_one_line(error)}") from error


def call(key: str, path: str, *arguments: Any) -> Any:
    """Call what `path` names.

    ConfigError, FaultError, BudgetReached and ContextFull pass; any other error is raised as a PluginError that names
    the plugin.
    """
    from tau2_exp.types import BudgetReached, ContextFull, FaultError

    function = load(key, path)
    try:
        return function(*arguments)
    except (ConfigError, FaultError, BudgetReached, ContextFull):
        raise
    except Exception as error:
        raise PluginError(f"{key}={path}: raised {in_one_line(error)}") from error


def make(key: str, path: str, *arguments: Any) -> Any:
    """Call what `path` names, and check the result by the protocol that it has to meet. Raises PluginError."""
    made = call(key, path, *arguments)
    wanted = _made_by(protocol_of(key))
    try:
        reason = "; ".join(_lacks(made, wanted))
    except Exception as error:  # of one of its properties
        raise PluginError(f"{key}={path}: raised {in_one_line(error)}") from error
    if reason:
        raise PluginError(f"{key}={path}: made a {type(made).__name__} that is no {wanted.__name__}: {reason}")
    return made


# ---------------------------------------------------------------- checks


def _why_not(found: Any, protocol: type) -> str:
    """Why what was found cannot be called as the protocol is; empty where it can."""
    if not callable(found):
        return f"is of type {type(found).__name__}, no function"
    if reason := _why_not_called(found, protocol.__call__):
        return reason
    wanted = _made_by(protocol)
    if inspect.isclass(found) and inspect.isclass(wanted) and protocol.__name__.startswith("Make"):
        return "; ".join(_lacks(found, wanted))
    return ""


def _why_not_called(found: Any, wanted: Any, bound: bool = True) -> str:
    """Why `found` cannot be called with the arguments that `wanted` takes behind its self."""
    try:
        signature = inspect.signature(found)
    except ValueError:  # some functions written in C tell none
        return ""
    arguments = list(inspect.signature(wanted).parameters)[bound:]
    try:
        signature.bind(*arguments)
    except TypeError:
        return f"takes ({', '.join(signature.parameters)})"
    return ""


def _lacks(found: Any, protocol: type) -> Iterator[str]:
    """What an object, or a class, lacks of a protocol. What a class gives its objects as they are made is not seen."""
    for name, wanted in vars(protocol).items():
        if name.startswith("_") or not inspect.isfunction(wanted):
            continue
        method = getattr(found, name, None)
        if not callable(method):
            yield f"has no method {name}"
        elif reason := _why_not_called(method, wanted, bound=_is_bound(found, name)):
            yield f"its {name} {reason}"
        elif inspect.iscoroutinefunction(wanted) and not inspect.iscoroutinefunction(method):
            yield f"its {name} must be `async def`"
    if not inspect.isclass(found):
        fields = [*protocol.__annotations__, *(n for n, v in vars(protocol).items() if isinstance(v, property))]
        yield from (reason for name in fields if (reason := _why_not_read(found, name)))


def _is_bound(found: Any, name: str) -> bool:
    """Whether a method is looked up without a self of its own to be given."""
    if not inspect.isclass(found):
        return True
    return isinstance(inspect.getattr_static(found, name, None), (staticmethod, classmethod))


def _why_not_read(found: Any, name: str) -> str:
    """Why an object's attribute cannot be read; empty where it can. A property may lack something of its own."""
    try:
        getattr(found, name)
    except AttributeError as error:
        return f"its {name} raises AttributeError: {error}" if hasattr(type(found), name) else f"has no {name}"
    return ""


def _made_by(protocol: type) -> Any:
    return get_type_hints(protocol.__call__)["return"]


def _shape(protocol: type, name: str) -> str:
    """`score(trajectory, config) -> Reward`, as the protocol has it."""
    signature = inspect.signature(protocol.__call__)
    return f"{name}({', '.join(list(signature.parameters)[1:])}) -> {signature.return_annotation}"


def _example(key: str) -> str:
    return {"domain.provider": "Bank", "reward.function": "score", "reward.credit": "advantages"}.get(key, "name")


def in_one_line(error: BaseException) -> str:
    """The type and message of an error, and where it was raised, in one line."""
    words = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        where = ""  # its words say that
    return f"{type(error).__name__}{f': {words}' if words else ''}{where}"
