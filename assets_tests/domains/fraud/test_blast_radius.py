"""Which served predictions used a partition, by its features or its model."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from assets_tests import homes
from assets_tests.domains.fraud.conftest import PROMOTED_AFTER, SERVED, Served
from assets_tests.serving.service_log import table
from my_platform.cli import app
from my_platform.errors import PlatformError


def radius(served: Served, *words: str) -> Any:
    done = CliRunner().invoke(app, ["--home", str(served.home), "blast-radius", *words, "--json"])
    if isinstance(done.exception, PlatformError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def through(found: Any) -> dict[str, list[str]]:
    return {each["day"]: each["through"] for each in found["by_day"]}


def test_a_day_that_was_served_is_used_by_its_own_predictions_and_those_after_it(served: Served) -> None:
    found = radius(served, "validated/transactions", SERVED[1])
    assert through(found) == {day: ["features"] for day in SERVED[1:]}
    assert found["versions"] == [served.session.versions()["validated/transactions"][SERVED[1]]]
    rows = [table(served.session, "validated/scored_requests", day) for day in SERVED[1:]]
    assert [each["key"] for each in found["rows"]] == [key for day in rows for key in day["TRANSACTION_ID"]]
    assert found["predictions"] == len(found["rows"])


def test_a_day_that_the_model_was_fitted_on_is_used_by_all_of_its_predictions(served: Served) -> None:
    found = radius(served, "raw/transactions", homes.day(3))
    assert through(found) == {day: ["features", "model"] for day in SERVED}
    assert {each["bundle"] for each in found["by_day"]} == {
        served.session.models.registry.ledger.lines("fraud")[-1].after.bundle
    }


def test_a_day_after_all_that_was_served_is_used_by_none(served: Served) -> None:
    found = radius(served, "labelled_transactions", SERVED[-1])
    assert set(through(found)) <= {SERVED[-1]}
    later = radius(served, "validated/transactions", homes.day(PROMOTED_AFTER + 30))
    assert (later["predictions"], later["versions"]) == (0, [])


def test_a_partition_that_cannot_be_is_refused_by_name(served: Served) -> None:
    with pytest.raises(PlatformError, match="`soon` is not a day"):
        radius(served, "validated/transactions", "soon")
    with pytest.raises(PlatformError, match="orders is no asset"):
        radius(served, "orders", SERVED[0])
