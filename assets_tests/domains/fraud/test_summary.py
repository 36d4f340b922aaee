"""What the command line shows of a week's figures."""

from my_platform.domains.fraud.summary import beside_published

SPAN = {"from": "2018-08-08", "to": "2018-08-14", "rows": 1000, "frauds": 25}


def test_figures_that_an_older_version_stored_are_shown_as_those_of_now() -> None:
    found = {"auc_roc": 0.8, "average_precision": 0.7}
    about = {"week": "2018-08-08", "model": "m", "train": SPAN, "test": SPAN}
    older, present = (
        beside_published({**about, "models": {"m": {**found, name: 0.3}}})
        for name in ("card_precision_at_100", "precision_at_100")
    )

    assert older == present
    assert present.rows[0] == ["m", "0.800", "0.700", "0.300"]
