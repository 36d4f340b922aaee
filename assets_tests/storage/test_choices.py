"""Choices of parameters beside the landed files."""

from dataclasses import replace
from pathlib import Path

import pytest

from my_platform.errors import PlatformError
from my_platform.storage.choices import Choice, Choices
from my_platform.storage.places import open_place

CHOICE = Choice("m", {"leaves": 31}, ["2025-02-05"], "ann", "2025-03-01T00:00:00+00:00")
LATER = replace(CHOICE, parameters={"leaves": 15}, at="2025-03-02T00:00:00+00:00")


@pytest.fixture
def choices(tmp_path: Path) -> Choices:
    return Choices(open_place(str(tmp_path)))


def test_the_latest_choice_counts(choices: Choices) -> None:
    assert choices.present("m") is None
    choices.add(LATER)
    choices.add(CHOICE)

    assert choices.present("m") == LATER
    assert choices.present("other") is None


def test_a_choice_without_parameters_goes_back_to_the_declared_ones(choices: Choices) -> None:
    choices.add(CHOICE)
    choices.add(replace(CHOICE, parameters={}, at="2025-03-03T00:00:00+00:00"))

    assert choices.present("m") is None
    assert len(choices.of("m")) == 2


@pytest.mark.parametrize("damage", ["{", '{"model": "m"}', ""])
def test_a_damaged_choice_is_named(choices: Choices, damage: str) -> None:
    path = Path(choices.add(CHOICE))
    path.write_text(damage)

    with pytest.raises(PlatformError, match=f"choices/m/{CHOICE.id}.json is not a choice"):
        choices.present("m")


def test_a_choice_that_was_edited_is_named(choices: Choices) -> None:
    path = Path(choices.add(CHOICE))
    path.write_text(path.read_text().replace("31", "63"))

    with pytest.raises(PlatformError, match="is not a choice"):
        choices.present("m")
