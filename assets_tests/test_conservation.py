"""The watch over rows sees a row that is lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets_tests import conservation
from assets_tests.operations.shop import ORDERS
from assets_tests.operations.till import Till, day
from my_platform.quality import tables
from my_platform.quality.rows import Split, split_rows


def test_a_row_that_is_in_neither_place_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(*arguments: Any) -> Split:
        whole = split_rows(*arguments)
        return replace(whole, quarantined=whole.quarantined.head(1))

    monkeypatch.setattr(tables, "split_rows", losing)
    till = Till(folder, replace(ORDERS, most_bad_share=0.5))
    till.land(0, 100, -1, -2, 400)
    till.refresh()
    message = f"validated/orders {day(0)}: 4 rows landed, 2 are valid and 1 in quarantine"
    with pytest.raises(AssertionError, match=message):
        conservation.check()
