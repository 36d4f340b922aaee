"""The checks of `my-platform doctor`, in the order in which a person would look."""

from my_platform.operations.doctor import of_code, of_dagster, of_home, of_ledgers, of_profile, of_storage
from my_platform.operations.doctor.findings import Check, Finding, examine
from my_platform.settings import Settings


def checks(*, deep: bool) -> dict[str, Check]:
    """The checks by name.

    Args:
        deep: look at every object, and not at a sample of them.
    """
    return {
        "home": of_home.layout,
        "format": of_home.home_format,
        "permissions": of_home.permissions,
        "disk space": of_home.disk,
        "clock": of_home.clock,
        "unfinished files": of_home.unfinished,
        "libraries": of_code.libraries,
        "domains": of_code.domains,
        "profile": of_profile.profile,
        "PostgreSQL": of_profile.postgres,
        "bucket": of_profile.bucket,
        "MLflow": of_profile.mlflow,
        "Ray": of_profile.ray,
        "landing": of_storage.landing,
        "lake": of_storage.lake,
        "trace index": of_storage.traces(deep=deep),
        "Dagster instance": of_dagster.instance,
        "DAGSTER_HOME": of_dagster.dagster_home,
        "runs": of_dagster.runs,
        "daemon": of_dagster.daemon,
        "ledgers": of_ledgers.ledgers,
        "retraining": of_ledgers.fit_decisions,
        "bundles": of_ledgers.bundles,
    }


def examine_home(settings: Settings, *, deep: bool = False) -> list[Finding]:
    """What is well and what is not in a home."""
    return examine(settings, checks(deep=deep))
