"""τ²-bench's own records (its `Results`), as far as they are read here. A field that a record lacks is None.

Only what no evaluation can do without is required, so that files of every revision, and of other people, are read.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

R = TypeVar("R", bound="Record")
UNKNOWN = "unknown"
MOST = 200_000  # planned episodes of one file; all of telecom's tasks forty times are 91,400
_LARGEST = 10**9  # of any other count


def _printable(text: str) -> str:
    """Raises ValueError for half a surrogate pair, which JSON can hold and no terminal takes."""
    if text != text.encode("utf-8", "ignore").decode():
        raise ValueError("holds half a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_printable)]


class Record(BaseModel):
    """The base of all records: unknown fields are ignored, and null means that a field is missing."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _told(cls, data: Any) -> Any:
        """Leave out null fields, so that they take their defaults."""
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


class Speaker(Record):
    """The agent or the user: its implementation and its model."""

    implementation: Text = UNKNOWN
    llm: Text | None = None
    llm_args: dict[str, Any] | None = None

    @field_validator("llm_args")
    @classmethod
    def _numbers(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in ("temperature", "top_p", "top_k"):
            value = (given or {}).get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ValueError(f"{name}: expected a number, got {value!r}")
        return given

    def argument(self, name: str) -> float | None:
        """A number among the model's arguments; None where it is missing."""
        return (self.llm_args or {}).get(name)


class Environment(Record):
    """τ²-bench's `EnvironmentInfo`: the domain."""

    domain_name: Text = UNKNOWN


class Info(Record):
    """τ²-bench's `Info`: how the simulations of a file were made."""

    git_commit: Text | None = None
    num_trials: int | None = Field(None, ge=1, le=MOST)
    max_steps: int | None = Field(None, ge=1, le=_LARGEST)
    max_errors: int | None = Field(None, ge=1, le=_LARGEST)
    user_info: Speaker = Speaker()
    agent_info: Speaker = Speaker()
    environment_info: Environment = Environment()
    seed: int | None = None


class DbCheck(Record):
    """Whether the databases equal those of the reference path."""

    db_match: bool


class Met(Record):
    """Whether an assertion holds, or something required was communicated."""

    met: bool


class ActionCheck(Record):
    """Whether an action of the reference path was done."""

    action_match: bool


class Judgement(Record):
    """τ²-bench's `RewardInfo`. The reward is None where nobody evaluated the episode."""

    reward: float | None = Field(None, ge=0.0, le=1.0)
    db_check: DbCheck | None = None
    env_assertions: list[Met] | None = None
    action_checks: list[ActionCheck] | None = None
    communicate_checks: list[Met] | None = None
    reward_breakdown: dict[str, float] | None = None
    info: Any = None


class Simulation(Record):
    """τ²-bench's `SimulationRun`."""

    task_id: Text
    termination_reason: Text
    messages: list[dict[str, Any]]
    trial: int | None = Field(None, ge=0, le=_LARGEST)
    seed: int | None = None
    duration: float | None = None
    agent_cost: float | None = None
    user_cost: float | None = None
    reward_info: Judgement | None = None
    info: dict[str, Any] | None = None


def read_record(kind: type[R], data: Any) -> R:
    """`data` as a record of this kind. Raises ValueError in one line, naming the field that is wrong."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
