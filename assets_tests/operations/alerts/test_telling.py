"""A process that dies at any moment of a look loses no notice, and doubles none but that which it was just sending."""

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from my_platform.operations.alerts import telling
from my_platform.operations.alerts.channels import LogFile
from my_platform.operations.alerts.conditions import Known, Refusal, Severity
from my_platform.operations.alerts.facts import Seen
from my_platform.operations.alerts.said import Notice, State, write_state
from my_platform.operations.alerts.telling import Teller


class Died(BaseException):
    """The process is gone."""


@dataclass
class Receiver:
    """Takes notices, and dies with the process before or after it has taken them."""

    name: str
    least: Severity = "info"
    taken: list[str] = field(default_factory=list)
    dies: str = ""

    def send(self, notices: Sequence[Notice]) -> None:
        if self.dies == "before":
            raise Died
        self.taken += [notice.id for notice in notices]
        if self.dies == "after":
            raise Died


@dataclass
class Writes:
    """Writes of the state, of which one is the last that a process comes to."""

    left: int

    def __call__(self, path: Path, state: State) -> None:
        if self.left == 0:
            raise Died
        self.left -= 1
        write_state(path, state)


DEATHS = st.sampled_from(
    ["", "", "before a", "after a", "before b", "after b", "write 0", "write 1", "write 2"]
)
LOOKS = st.lists(st.tuples(st.frozensets(st.sampled_from("xyz")), DEATHS), max_size=8)


@settings(deadline=None, max_examples=50)
@given(LOOKS)
def test_whenever_a_process_dies_nothing_is_lost_and_only_what_it_was_sending_comes_again(
    looks: list[tuple[frozenset[str], str]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        receivers = {each: Receiver(each) for each in "ab"}
        teller = Teller(folder, [LogFile(folder / "alerts.jsonl"), *receivers.values()], repeat_s=0)
        died_sending: Counter[str] = Counter()
        for number, (holding, death) in enumerate([*looks, (frozenset("x"), ""), (frozenset(), "")]):
            when, _, what = death.partition(" ")
            for receiver in receivers.values():
                receiver.dies = when if what == receiver.name else ""
            writes = Writes(int(what) if when == "write" else 99)
            known = Known([Refusal("raw/orders", key, key) for key in sorted(holding)])
            before = {each: len(receiver.taken) for each, receiver in receivers.items()}
            with patch.object(telling, "write_state", writes):
                try:
                    teller.tell(lambda _c, _n, known=known: Seen(known, {}), 1_000.0 + number)  # type: ignore[misc]
                except Died:
                    died_sending.update(
                        each for each, receiver in receivers.items() if len(receiver.taken) > before[each]
                    )
        logged = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
        ids = [line["id"] for line in logged]
        assert len(set(ids)) == len(ids)
        for each, receiver in receivers.items():
            assert set(receiver.taken) == set(ids)
            again = len(receiver.taken) - len(ids)
            assert again == 0 or died_sending[each]
        # Of each alert: a beginning and an end, in turn, to the last one.
        for key in {line["key"] for line in logged}:
            words = [line["what"] for line in logged if line["key"] == key]
            assert words == ["began", "ended"] * (len(words) // 2)
