"""Settings come from the environment, each by its name, and a wrong one is named with its value."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from my_platform.errors import PlatformError
from my_platform.settings import CHECKOUT, Settings, load_settings, memory_there


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("MY_PLATFORM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_any_variable_everything_lies_in_the_checkout() -> None:
    settings = load_settings()
    assert settings.home == CHECKOUT / ".platform"
    assert settings.landing == str(CHECKOUT / ".platform" / "landing")
    assert settings.lake == str(CHECKOUT / ".platform" / "lake")
    assert settings.domains == ("my_platform.domains.fraud",)


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("MY_PLATFORM_THREADS", "7", "threads", 7),
        ("MY_PLATFORM_PORT", "8080", "port", 8080),
        ("MY_PLATFORM_BOOSTING_ROUNDS", "10", "boosting_rounds", 10),
        ("MY_PLATFORM_TRAINING_WINDOW_DAYS", "28", "training_window_days", 28),
        ("MY_PLATFORM_DOMAINS", "a.b, c ,", "domains", ("a.b", "c")),
        ("MY_PLATFORM_LAKE_URL", "s3://bucket/lake", "lake", "s3://bucket/lake"),
        ("MY_PLATFORM_LANDING_URL", "/data/landing", "landing", "/data/landing"),
        ("my_platform_threads", "3", "threads", 3),
    ],
)
def test_a_variable_sets_its_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, expected: Any
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(), name) == expected


@pytest.mark.parametrize(
    ("home", "expected"),
    [("~/a home", "~/a home"), ("relative/home", "{cwd}/relative/home"), ("/abs", "/abs")],
)
def test_a_home_is_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str, expected: str
) -> None:
    monkeypatch.setenv("MY_PLATFORM_HOME", home)
    settings = load_settings()
    assert settings.home == Path(expected.format(cwd=tmp_path)).expanduser()
    assert {settings.dagster_home.parent, settings.mlflow_folder.parent, settings.reports.parent} == {
        settings.home
    }


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    default = load_settings()
    monkeypatch.setenv(f"MY_PLATFORM_{name.upper()}", "")
    assert load_settings() == default


def test_a_given_value_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PLATFORM_THREADS", "7")
    assert load_settings(threads=2).threads == 2
    assert load_settings(threads=None).threads == 7


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MY_PLATFORM_THREADS", "x", "valid integer"),
        ("MY_PLATFORM_THREADS", "0", "greater than or equal to 1"),
        ("MY_PLATFORM_PORT", "99999", "less than or equal to 65535"),
        ("MY_PLATFORM_TRAINING_WINDOW_DAYS", "6", "greater than or equal to 7"),
        ("MY_PLATFORM_BOOSTING_ROUNDS", "1.5", "valid integer"),
        ("MY_PLATFORM_DOMAINS", " , ", "at least 1 item"),
        ("MY_PLATFORM_LAKE_URL", "gs://bucket/lake", "expected a folder or s3://bucket/prefix"),
        ("MY_PLATFORM_LANDING_URL", "file:///data", "expected a folder or s3://bucket/prefix"),
        ("MY_PLATFORM_MLFLOW_UI_URL", "tracking.example", "expected http://"),
    ],
)
def test_a_refused_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(PlatformError, match=rf"these settings are refused: {variable}=.*{words}"):
        load_settings()


def test_all_refused_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PLATFORM_THREADS", "x")
    monkeypatch.setenv("MY_PLATFORM_PORT", "y")
    with pytest.raises(PlatformError, match=r"MY_PLATFORM_THREADS='x'.*; MY_PLATFORM_PORT='y'"):
        load_settings()


def test_a_variable_that_is_no_setting_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PLATFORM_TREADS", "2")
    with pytest.raises(
        PlatformError, match=r"MY_PLATFORM_TREADS is no setting; there are .*MY_PLATFORM_THREADS"
    ):
        load_settings()


def test_variables_of_others_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "x")
    monkeypatch.setenv("MY_PLATFORMS", "x")
    assert load_settings().threads == 2


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().threads = 3  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_secret_that_is_refused_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PLATFORM_ALERT_WEBHOOK_URL", "hooks.example/services/swordfish")
    with pytest.raises(PlatformError, match=r"MY_PLATFORM_ALERT_WEBHOOK_URL=\*\*\*") as refused:
        load_settings()
    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4_000_000_000), ("1.5GiB", 1_610_612_736), ("800MB", 800_000_000), ("off", None)],
)
def test_a_memory_limit_is_told_in_bytes(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: int | None
) -> None:
    monkeypatch.setenv("MY_PLATFORM_MEMORY_LIMIT", text)
    assert load_settings().memory_limit_bytes == expected


def test_by_default_the_limit_is_a_share_of_the_memory_there_is() -> None:
    limit = load_settings().memory_limit_bytes
    assert limit == int(memory_there() * 80 / 100)


@pytest.mark.parametrize(
    ("text", "said"), [("4 gigs", "expected a size such as 4GB"), ("0%", "above 0%"), ("1KB", "1,000 bytes")]
)
def test_what_is_no_memory_limit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("MY_PLATFORM_MEMORY_LIMIT", text)
    with pytest.raises(PlatformError, match=f"MY_PLATFORM_MEMORY_LIMIT='{text}'.*{said}"):
        load_settings()
