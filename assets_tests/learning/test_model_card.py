"""Model cards: what is counted is called as the domain calls it, and older figures are read as they are now."""

from typing import Any

from my_platform.learning.model_card import model_card, with_test

INTERVAL = {"value": 0.5, "low": 0.4, "high": 0.6}
SPAN = {"from": "2026-01-07", "to": "2026-01-13", "rows": 1000, "leaks": 25}
ABOUT = {"train": SPAN, "features": ["PRESSURE"], "parameters": {}, "seeds": {}}


def figures(threshold: str, counted: str) -> dict[str, Any]:
    """Those of a week, with these names for what is looked at a day and for the positives of a slice."""
    part = {"slice": "KIND", "value": "old", "rows": 40, counted: 7, "average_precision": INTERVAL}
    return {
        "test": SPAN,
        "intervals": {"average_precision": INTERVAL},
        "calibration": INTERVAL,
        "operating_threshold": {threshold: 80, "score": 0.3},
        "slices": [{**part, "calibration": 1.1}],
    }


def test_a_card_says_what_the_domain_counts() -> None:
    card = with_test(
        model_card("pumps", "2026-01-21", ABOUT, {}, ""), figures("looked_at_a_day", "positives")
    )

    assert card.count("1,000 rows of 2026-01-07 to 2026-01-13, 25 of them leaks") == 2
    assert "| expected ÷ found leaks | 0.500 (0.400 to 0.600) |" in card
    assert "| threshold for 80 checks a day | 0.3000 |" in card
    assert "| slice | rows | leaks | average precision |" in card
    assert "| KIND = old | 40 | 7 | 0.500 (0.400 to 0.600) |" in card


def test_figures_that_an_older_version_stored_make_the_same_card() -> None:
    assert with_test("", figures("cards_a_day", "frauds")) == with_test(
        "", figures("looked_at_a_day", "positives")
    )
