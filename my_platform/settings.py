"""Every setting, typed, with its environment variable, unit and default."""

import contextlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from my_platform.errors import PlatformError

CHECKOUT = Path(__file__).resolve().parent.parent
_LEAST_MEMORY_BYTES = 500_000_000
# Of control groups, second and first version.
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Settings(BaseSettings):
    """Settings of one process. The variable of a setting is ``MY_PLATFORM_`` and its name in capitals.

    A variable that is empty counts as not set.
    """

    model_config = SettingsConfigDict(
        env_prefix="MY_PLATFORM_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    home: Path = Field(
        default=CHECKOUT / ".platform",
        description="folder under which everything lies that the platform writes",
    )
    profile: Literal["embedded", "server", "cluster"] = Field(
        default="embedded",
        description="where runs, events and models lie and where runs happen; a folder of `deploy/`",
    )
    bucket_url: str | None = Field(
        default=None,
        description="s3://bucket/prefix below which landing, lake, MLflow's artifacts and logs lie, and what several machines "
        "share of the registry; default: the home",
    )
    bucket_patience_s: float = Field(
        default=120,
        ge=0,
        le=86_400,
        description="seconds for which a request to a bucket is tried again before the run ends, as storage is gone",
    )
    bucket_silence_s: float = Field(
        default=30,
        gt=0,
        le=3_600,
        description="seconds in which a bucket has to take a request and answer it, or go on with a long answer",
    )
    landing_url: str | None = Field(
        default=None, description="where source systems drop files: a folder or s3://…; default HOME/landing"
    )
    lake_url: str | None = Field(
        default=None, description="where computed tables lie: a folder or s3://…; default HOME/lake"
    )
    domains: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("my_platform.domains.fraud",),
        min_length=1,
        description="modules, separated by commas, whose function `assets()` gives the assets to run",
    )
    ray_address: str = Field(
        default="auto",
        description="HOST:PORT of the head of the Ray cluster that backfills of the profile `cluster` are spread over; "
        "`auto`: the one that this machine is a node of",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Ray workers of one backfill; default: as many as there is room for",
    )
    worker_cpus: int = Field(default=1, ge=1, le=256, description="processors of one such worker")
    fit_over_workers_rows: int | None = Field(
        default=None,
        ge=1,
        description="rows of a training set from which a model is fitted by Ray Train; default: never",
    )
    fit_workers: int = Field(default=2, ge=2, le=256, description="Ray workers that fit one model together")
    threads: int = Field(
        default=2, ge=1, le=1024, description="threads that fit one model; does not change the result"
    )
    memory_limit: str = Field(
        default="80%",
        description="memory that a process of the platform and those that it starts take together: such as `4GB` or "
        "`3.5GiB`, a share of what the machine or the container has, or `off`; does not change a result",
    )
    training_window_days: int | None = Field(
        default=None, ge=7, le=365, description="days a model is trained on; default: the domain's choice"
    )
    boosting_rounds: int | None = Field(
        default=None, ge=1, le=100_000, description="trees of a LightGBM model; default: the domain's choice"
    )
    nets: Literal["off", "budget", "full"] = Field(
        default="off",
        description="the net beside LightGBM: `budget` fits a week in about a minute, `full` takes ten times as long",
    )
    variants: Literal["off", "on"] = Field(
        default="off",
        description="smaller and faster variants of each week's models, with what they lose and gain, for people to judge",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where nets are computed: `auto` takes CUDA where there is such a device"
    )
    cuda_devices: int = Field(default=1, ge=1, le=64, description="CUDA devices that fit one net together")
    training_gaps: Literal["wait", "pass"] = Field(
        default="wait",
        description="whether a model waits for a day that is missing from its training window, or is trained "
        "without it and names it",
    )
    quiet_s: float = Field(
        default=5,
        ge=0,
        le=86_400,
        description="seconds after its last change for which a landed file that looks unfinished is waited for",
    )
    most_file_rows: int = Field(
        default=50_000_000, ge=1, description="rows of the largest landed file that is taken"
    )
    most_file_bytes: int = Field(
        default=4 << 30, ge=1, description="bytes of the same, as it lies there and as it becomes in memory"
    )
    promote: Literal["gate", "never"] = Field(
        default="gate",
        description="gate: a run promotes the best new model that the gate lets pass; never: only a person does",
    )
    retraining: str = Field(
        default="declared",
        description="when models are fitted again: `declared` as their domains say, `always` each week, or a policy for "
        "all of them, such as `labelled_weeks=4,drift=0.1`",
    )
    retrain_interval_s: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="seconds between two looks at the retraining policies by the Dagster daemon",
    )
    sensor_interval_s: int = Field(
        default=15, ge=1, le=86_400, description="seconds between two looks at landing by the Dagster daemon"
    )
    land_log_interval_s: int = Field(
        default=600,
        ge=1,
        le=86_400,
        description="seconds between two landings of the prediction log's finished days by the Dagster daemon",
    )
    fetch_interval_s: int = Field(
        default=3600,
        ge=1,
        le=86_400,
        description="seconds between two looks at declared databases and HTTP APIs by the Dagster daemon",
    )
    port: int = Field(default=3000, ge=1, le=65535, description="TCP port of `my-platform ui` on loopback")
    ui_url: str | None = Field(
        default=None, description="where people reach the UI, for links in alerts; default: loopback"
    )
    mlflow_ui_url: str = Field(
        default="http://127.0.0.1:5000",
        description="where people see what MLflow tracks, for links from models; default: what `mlflow ui` serves",
    )
    alert_mail_to: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="mail addresses, separated by commas, that are sent alerts"
    )
    alert_mail_from: str | None = Field(
        default=None, description="the sender of such a mail; default: its own address"
    )
    alert_smtp_host: str | None = Field(default=None, description="the server that sends mail")
    alert_smtp_port: int = Field(default=587, ge=1, le=65535, description="its TCP port")
    alert_smtp_tls: Literal["off", "starttls", "tls"] = Field(
        default="starttls", description="how the connection to it is kept from others"
    )
    alert_smtp_user: str = Field(default="", description="who to log in there as; default: nobody")
    alert_smtp_password: SecretStr | None = Field(default=None, description="the password of that user")
    alert_webhook_url: SecretStr | None = Field(
        default=None, description="http(s)://… that alerts are sent to as JSON by POST"
    )
    alert_timeout_s: float = Field(
        default=5, gt=0, le=60, description="seconds within which a server that takes alerts has to answer"
    )
    alert_least: Literal["info", "warning", "error"] = Field(
        default="info", description="the least severe alert that is sent; the log has all"
    )
    alert_repeat_h: float = Field(
        default=24,
        ge=0,
        le=8_760,
        description="hours after which an alert that lasts is sent again; 0: never",
    )
    alert_interval_s: int = Field(
        default=60, ge=1, le=86_400, description="seconds between two looks for alerts by the Dagster daemon"
    )
    budget_cpu_s: float | None = Field(
        default=None, gt=0, description="processor seconds of a UTC day beyond which an alert is sent"
    )
    fresh_within_h: float = Field(
        default=24, gt=0, description="hours from landing to a computed partition that are promised"
    )
    deployed_within_h: float = Field(
        default=48,
        gt=0,
        description="hours from new data to the promotion of a model of it that are promised",
    )
    serve_host: str = Field(
        default="127.0.0.1",
        description="address that `my-platform serve` listens at; another than loopback needs tokens",
    )
    serve_port: int = Field(default=8000, ge=0, le=65535, description="its TCP port; 0 takes a free one")
    serve_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="processes that speak HTTP on the port, beside the one that scores; 1: one process does both",
    )
    serve_tokens: Path | None = Field(
        default=None, description="the JSON file of its tokens and their scopes"
    )
    serve_token: SecretStr | None = Field(default=None, description="one token for all scopes")
    serve_rate: float = Field(
        default=5_000, gt=0, description="rows a second that one token may have scored, as many at once"
    )
    serve_most_rows: int = Field(default=500, ge=1, le=100_000, description="rows of one batch")
    serve_most_bytes: int = Field(default=1 << 20, ge=1_000, description="bytes of the body of a request")
    serve_body_s: float = Field(default=10, gt=0, description="seconds in which a body has to come")
    serve_durability: Literal["process", "power"] = Field(
        default="process",
        description="what an acknowledged answer survives: the end of the process, or a loss of power",
    )
    serve_redis_url: str | None = Field(
        default=None, description="redis://… that holds the online state; default: a file in the home"
    )
    serve_shadow: str = Field(
        default="off",
        description="a bundle that is scored beside the champion and logged: `off`, `previous`, or its digest",
    )
    serve_reconcile_s: float = Field(
        default=60, gt=0, description="seconds between two looks for partitions that changed"
    )

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("landing_url", "lake_url", mode="after")
    @classmethod
    def _known_place(cls, url: str | None) -> str | None:
        if url is not None and "://" in url and not url.startswith("s3://"):
            raise ValueError("expected a folder or s3://bucket/prefix")
        return url

    @field_validator("bucket_url", mode="after")
    @classmethod
    def _bucket(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith("s3://") or not url.removeprefix("s3://").strip("/"):
            raise ValueError("expected s3://bucket/prefix")
        return url.rstrip("/")

    @field_validator("ui_url", "mlflow_ui_url", "alert_webhook_url", mode="before")
    @classmethod
    def _http(cls, url: Any) -> Any:
        if isinstance(url, str) and not url.startswith(("http://", "https://")):
            raise ValueError("expected http://… or https://…")
        return url

    @field_validator("alert_mail_to", mode="after")
    @classmethod
    def _addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        if any("@" not in address or any(c.isspace() for c in address) for address in addresses):
            raise ValueError("expected mail addresses with commas between them")
        return addresses

    @field_validator("domains", "alert_mail_to", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("memory_limit", mode="after")
    @classmethod
    def _size(cls, text: str) -> str:
        if text != "off" and (found := _bytes_of(text)) < _LEAST_MEMORY_BYTES:
            raise ValueError(f"that is {found:,} bytes; the processes alone need {_LEAST_MEMORY_BYTES:,}")
        return text

    @property
    def memory_limit_bytes(self) -> int | None:
        """The memory limit in bytes; None where it is off."""
        return None if self.memory_limit == "off" else _bytes_of(self.memory_limit)

    @property
    def spill(self) -> Path:
        """Where lies what does not fit into memory, as long as a run computes with it."""
        return self.home / "spill"

    @property
    def landing(self) -> str:
        return self.landing_url or f"{self.bucket_url or self.home}/landing"

    @property
    def lake(self) -> str:
        return self.lake_url or f"{self.bucket_url or self.home}/lake"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def mlflow_folder(self) -> Path:
        return self.home / "mlflow"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's store where it is no file of the home: in the database of the PG… variables, the password not in it."""
        if self.profile == "embedded":
            return ""
        user, host, port, name = (
            quote(os.environ.get(f"PG{each}", "")) for each in ("USER", "HOST", "PORT", "DATABASE")
        )
        return f"postgresql+psycopg2://{user}@{host}:{port or 5432}/{name}?options=-csearch_path%3Dmlflow"

    @property
    def mlflow_artifacts(self) -> str:
        """Where MLflow's artifacts lie if not in the home."""
        return f"{self.bucket_url}/mlflow" if self.bucket_url else ""

    @property
    def backfills(self) -> Path:
        return self.home / "backfills"

    @property
    def analysts_database(self) -> Path:
        return self.home / "analytics" / "analytics.duckdb"

    @property
    def checkpoints(self) -> Path:
        return self.home / "checkpoints"

    @property
    def studies(self) -> Path:
        return self.home / "studies"

    @property
    def serving(self) -> Path:
        return self.home / "serving"

    @property
    def service_health(self) -> Path:
        return self.serving / "health.json"

    @property
    def registry(self) -> Path:
        return self.home / "registry"

    @property
    def alerts(self) -> Path:
        return self.home / "alerts"

    @property
    def reports(self) -> Path:
        return self.home / "reports"


def allows_http() -> bool:
    """Whether buckets may be asked without TLS: the client reads ``AWS_ALLOW_HTTP`` only where it is told nothing else."""
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "on", "yes", "y")


def _bytes_of(text: str) -> int:
    """The bytes of a memory limit that is not off.

    Raises:
        ValueError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|[KMGT]i?B)", text)
    if found is None:
        raise ValueError("expected a size such as 4GB or 3.5GiB, a share such as 80%, or off")
    number, unit = float(found[1]), found[2]
    if unit == "%":
        if not 0 < number <= 100:
            raise ValueError("expected a share above 0% and up to 100%")
        return int(memory_there() * number / 100)
    return int(number * (1024 if "i" in unit else 1000) ** ("KMGT".index(unit[0]) + 1))


def memory_there() -> int:
    """The bytes of memory that the machine has, or the container where that has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            machine = min(machine, int(Path(path).read_text()))
    return machine


def load_settings(**given: Any) -> Settings:
    """The settings of this process.

    Args:
        given: values that go before the environment.

    Raises:
        PlatformError: a value is refused; the message names the variable, the value and what is expected.
    """
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"MY_PLATFORM_{str(problem['loc'][0]).upper()}={_shown(problem)}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise PlatformError("these settings are refused: " + "; ".join(problems)) from None
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("MY_PLATFORM_")
        and name.removeprefix("MY_PLATFORM_").lower() not in Settings.model_fields
        and name not in ("MY_PLATFORM_HANDBOOK",)
    )
    if unknown:
        known = ", ".join(f"MY_PLATFORM_{name.upper()}" for name in Settings.model_fields)
        raise PlatformError(f"{', '.join(unknown)} is no setting; there are {known}")
    return settings


def _shown(problem: Any) -> str:
    """The value that was refused; of a secret nothing."""
    field = Settings.model_fields.get(str(problem["loc"][0]))
    return "***" if field is not None and "SecretStr" in str(field.annotation) else repr(problem["input"])
