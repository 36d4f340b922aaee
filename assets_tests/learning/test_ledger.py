"""Who is champion on which day, as the promotion ledger tells it."""

from my_platform.incremental.declare import ordinal
from my_platform.learning.ledger import Line, Served, champions_by_day

AT = "2025-03-01T12:00:00+00:00"


def line(bundle: str, from_day: str, at: str = AT) -> Line:
    served = Served("m", "2025-01-01", "v", "r", bundle * 64)
    return Line(at, "test", "promote", "fraud", "", None, served, from_day=from_day)


def champions(lines: list[Line], last: str) -> dict[str, str]:
    found = champions_by_day(lines, ordinal(last))
    return {f"{day - ordinal('2025-01-01') + 1}": digest.hex()[0] for day, digest in found.items()}


def test_each_champion_counts_from_its_own_day_to_the_next_ones() -> None:
    lines = [line("a", "2025-01-02"), line("b", "2025-01-04"), line("a", "2025-01-05")]
    assert champions(lines, "2025-01-06") == {"2": "a", "3": "a", "4": "b", "5": "a", "6": "a"}


def test_a_promotion_for_days_to_come_changes_none_that_has_landed() -> None:
    before = [line("a", "2025-01-02")]
    assert champions([*before, line("b", "2025-01-04")], "2025-01-03") == champions(before, "2025-01-03")


def test_of_two_promotions_for_one_day_the_last_counts() -> None:
    assert champions([line("a", "2025-01-02"), line("b", "2025-01-02")], "2025-01-02") == {"2": "b"}


def test_a_later_line_never_reaches_further_back_than_an_earlier_one() -> None:
    lines = [line("a", "2025-01-03"), line("b", "2025-01-01")]
    assert champions(lines, "2025-01-03") == {"3": "b"}


def test_a_line_without_a_day_counts_from_the_day_on_which_it_was_written() -> None:
    assert champions([line("a", "", at="2025-01-02T23:59:59+00:00")], "2025-01-03") == {"2": "a", "3": "a"}
