"""Exactly what is owed: random graphs and random histories, each refresh held against a clean build.

After every refresh: each head is the clean build's, data version for data version; the objects that were
created are those that were owed, each once; functions ran no more often than that; a second refresh asks
for no run. See ``assets_tests.incremental.world`` for the laws.
"""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from assets_tests.incremental.clean_build import Window
from assets_tests.incremental.generated import KINDS, Code, Derived, Graph, Source, text_of
from assets_tests.incremental.histories import day, flip_a_byte
from assets_tests.incremental.world import BROKEN, World

MEMORY = Path("/dev/shm")
SPANS = [(0, 0), (-1, -1), (-2, 0), (-6, 0), (-3, 2), (1, 1), (-29, 0), (-10, -4), (-399, 0)]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Some sources and up to four assets that read what stands before them."""
    made: list[Source | Derived] = [Source("s")]
    if draw(st.booleans()):
        made.append(Source("t"))
    if draw(st.booleans()):
        made.append(Source("n", "once"))
    for name in "abcd"[: draw(st.integers(1, 4))]:
        grain = draw(st.sampled_from(["day", "day", "week", "once"]))
        known = [node for node in made if grain != "once" or node.grain == "once"]
        if not known:
            grain, known = "day", list(made)
        parents = draw(st.lists(st.sampled_from(known[::-1]), min_size=1, max_size=3))
        windows = tuple(draw(_windows(parent)) for parent in parents)
        made.append(Derived(name, draw(st.sampled_from(KINDS)), windows, grain))
    return tuple(made)


@st.composite
def _windows(draw: st.DrawFn, parent: Source | Derived) -> Window:
    if parent.grain == "once":
        return Window(parent.name, at_least=draw(st.sampled_from([1, 1, 0])))
    first, last = draw(st.sampled_from(SPANS))
    if parent.grain == "week" and last - first < 6:
        first = last - 6
    most = last - first + 1
    waits = draw(st.booleans())
    return Window(parent.name, first, last, waits, draw(st.integers(0, min(3, most))))


days = st.integers(0, 11)
rows = st.lists(st.integers(0, 6), max_size=2).map(tuple)
texts = st.one_of(rows.map(text_of), rows.map(text_of), st.just(BROKEN))
often = st.sampled_from([True, True, False])


class Histories(RuleBasedStateMachine):
    """What people and source systems do to a platform, in any order."""

    @initialize(
        graph=graphs(),
        first=st.integers(0, 5),
        later=st.integers(-3, 3),
        length=st.integers(2, 8),
        what=st.lists(rows, min_size=2, max_size=4),
    )
    def start(self, graph: Graph, first: int, later: int, length: int, what: list[tuple[int, ...]]) -> None:
        """A history begins with some days; the second table starts on another day than the first."""
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.world = World(self.folder, graph)
        self.sources = [node for node in graph if isinstance(node, Source)]
        self.names = [node.name for node in graph]
        self.landed: list[tuple[str, str, str]] = []
        self.codes = [self.world.code]
        for source in self.sources:
            for n in range(length if source.grain == "day" else 0):
                self._land(source.name, day(max(0, first + n)), text_of(what[n % len(what)]))
            first += later
        self.world.refresh()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exception() is None:
                self.world.refresh(verify=True)
                self.world.check_stored(self.world.build)
                assert self.world.run == self.world.owed
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _land(self, source: str, key: str, text: str) -> None:
        self.world.land(source, key, text)
        self.landed.append((source, key, text))

    def _file(self, data: st.DataObject) -> tuple[str, str]:
        files = [(source, key) for source, found in self.world.files.items() for key in found]
        return data.draw(st.sampled_from(files), label="file")

    def _part(self, data: st.DataObject) -> tuple[str, str]:
        parts = [(a, p) for a, found in self.world.build.tables.items() for p in found]
        return data.draw(st.sampled_from(parts), label="partition")

    def _has_files(self) -> bool:
        return any(self.world.files.values())

    def _has_parts(self) -> bool:
        return any(self.world.build.tables.values())

    def _write(self, code: Code, refresh: bool) -> None:
        self.codes.append(code)
        self.world.write_code(code)
        self._then(refresh)

    def _then(self, refresh: bool) -> None:
        if refresh:
            self.world.refresh()

    # What lands.

    @rule(
        data=st.data(),
        first=days,
        length=st.integers(1, 5),
        what=st.lists(rows, min_size=1, max_size=3),
        refresh=often,
    )
    def land(
        self, data: st.DataObject, first: int, length: int, what: list[tuple[int, ...]], refresh: bool
    ) -> None:
        source = data.draw(st.sampled_from(self.sources), label="source")
        for n in range(length if source.grain == "day" else 1):
            key = day(first + n) if source.grain == "day" else ""
            self._land(source.name, key, text_of(what[n % len(what)]))
        self._then(refresh)

    @precondition(_has_files)
    @rule(data=st.data(), text=texts, refresh=often)
    def correct(self, data: st.DataObject, text: str, refresh: bool) -> None:
        self._land(*self._file(data), text)
        self._then(refresh)

    @rule(data=st.data(), refresh=often)
    def land_what_has_landed_before(self, data: st.DataObject, refresh: bool) -> None:
        self._land(*data.draw(st.sampled_from(self.landed), label="again"))
        self._then(refresh)

    @precondition(_has_files)
    @rule(data=st.data(), refresh=often)
    def remove(self, data: st.DataObject, refresh: bool) -> None:
        self.world.remove(*self._file(data))
        self._then(refresh)

    @precondition(_has_files)
    @rule(data=st.data(), refresh=often)
    def remove_all_but_one(self, data: st.DataObject, refresh: bool) -> None:
        kept = self._file(data)
        for source, found in self.world.files.items():
            for key in list(found):
                if (source, key) != kept:
                    self.world.remove(source, key)
        self._then(refresh)

    # Code.

    @rule(data=st.data(), number=st.integers(0, 2), refresh=often)
    def edit_a_function(self, data: st.DataObject, number: int, refresh: bool) -> None:
        self._write(self.world.code.edited(data.draw(st.sampled_from(self.names)), number), refresh)

    @rule(data=st.data(), number=st.integers(0, 2), refresh=often)
    def change_a_parameter(self, data: st.DataObject, number: int, refresh: bool) -> None:
        self._write(self.world.code.tuned(data.draw(st.sampled_from(self.names)), number), refresh)

    @rule(mixed=st.integers(0, 1), kept=st.integers(0, 1), comment=st.integers(0, 3), refresh=often)
    def edit_helpers_and_comments(self, mixed: int, kept: int, comment: int, refresh: bool) -> None:
        self._write(replace(self.world.code, mixed=mixed, kept=kept, comment=comment), refresh)

    @rule(data=st.data(), refresh=often)
    def go_back_to_old_code(self, data: st.DataObject, refresh: bool) -> None:
        self._write(data.draw(st.sampled_from(self.codes), label="code"), refresh)

    # What is done to the platform.

    @rule(retry=st.booleans())
    def refresh(self, retry: bool) -> None:
        if retry:
            self.world.refused.clear()
        self.world.refresh(retry=retry)

    @rule(names=st.sets(st.integers(0, 6), min_size=1))
    def refresh_some_assets(self, names: set[int]) -> None:
        chosen = {self.names[n % len(self.names)] for n in names}
        self.world.refresh(lambda asset, _partition: asset in chosen)

    @rule(last=days)
    def refresh_some_days(self, last: int) -> None:
        self.world.refresh(lambda _asset, partition: partition <= day(last))

    @precondition(_has_parts)
    @rule(data=st.data(), version=st.sampled_from(["deadbeef", "0" * 32, "x" * 32]), refresh=often)
    def report_by_hand(self, data: st.DataObject, version: str, refresh: bool) -> None:
        self.world.report_by_hand(*self._part(data), version)
        self._then(refresh)

    @precondition(_has_files)
    @rule(data=st.data(), crossing=st.integers(1, 40), what=rows, retuned=st.booleans())
    def be_killed(self, data: st.DataObject, crossing: int, what: tuple[int, ...], retuned: bool) -> None:
        self._land(*self._file(data), text_of(what))
        if retuned:
            self._write(self.world.code.tuned(data.draw(st.sampled_from(self.names)), 3), False)
        self.world.crash(crossing)

    @precondition(_has_files)
    @rule(data=st.data(), crossing=st.integers(1, 40), what=st.tuples(rows, rows), gone=st.booleans())
    def be_overtaken(
        self, data: st.DataObject, crossing: int, what: tuple[tuple[int, ...], ...], gone: bool
    ) -> None:
        self._land(*self._file(data), text_of(what[0]))
        source, key = self._file(data)

        def change() -> None:
            if gone:
                self.world.remove(source, key)
            else:
                self._land(source, key, text_of(what[1]))

        self.world.overtaken(crossing, change)

    @precondition(_has_parts)
    @rule(refresh=often)
    def lose_the_index(self, refresh: bool) -> None:
        self.world.lose_index()
        self._then(refresh)

    @precondition(_has_parts)
    @rule(data=st.data(), delete=st.booleans())
    def damage_an_object(self, data: st.DataObject, delete: bool) -> None:
        world = self.world
        world.refresh()
        parts = sorted(part for part in world.build.made if part not in world.build.refused)
        if parts:
            part = data.draw(st.sampled_from(parts), label="damaged")
            world.damage(*part, Path.unlink if delete else flip_a_byte)
            world.refresh(verify=True)
            world.check_stored(world.build)


def _settings(examples: int, steps: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
        **more,
    )


class TestHistories(Histories.TestCase):
    settings = _settings(25, 12, derandomize=True, database=None, phases=[Phase.generate, Phase.shrink])


@pytest.mark.slow
class TestManyHistories(Histories.TestCase):
    settings = _settings(400, 16, phases=[Phase.generate])
