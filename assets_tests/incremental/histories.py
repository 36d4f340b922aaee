"""Histories that are told once and for all; each is held to the laws at every refresh.

They run against the platform as it is, where all must pass, and against planted mistakes, each of which at
least one of them must tell.
"""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from assets_tests.incremental.clean_build import Window
from assets_tests.incremental.generated import Derived, Graph, Source
from assets_tests.incremental.world import BROKEN, LawBroken, World

History = Callable[[Path], None]
HISTORIES: dict[str, History] = {}


def history(function: History) -> History:
    HISTORIES[function.__name__] = function
    return function


def day(number: int) -> str:
    """Days from Monday 2024-01-01 on; number 2 is the first Wednesday."""
    return (date(2024, 1, 1) + timedelta(days=number)).isoformat()


def land_days(world: World, source: str, first: int, *tables: tuple[int, ...]) -> None:
    for number, table in enumerate(tables, start=first):
        world.land(source, day(number), table)


DIAMOND: Graph = (
    Source("s"),
    Derived("left", "top", (Window("s"),)),
    Derived("right", "fold", (Window("s", -2, 0, False, 0),)),
    Derived("joined", "fold", (Window("left"), Window("right", -1, 0, False))),
    Derived("weekly", "fold", (Window("joined", -7, -1, False, 1),), "week"),
)


def expect(world: World, **computed: list[int]) -> None:
    """Refresh; exactly these days of these assets are computed."""
    found = world.refresh().as_json()["computed"]
    wanted = {asset: [day(number) for number in days] for asset, days in computed.items() if days}
    if found != wanted:
        raise LawBroken("exact", f"computed {found} instead of {wanted}")


@history
def a_day_is_corrected_and_reverted(folder: Path) -> None:
    world = World(folder, DIAMOND)
    land_days(world, "s", 0, (1,), (2,), (3,), (4,), (5,), (6,), (7,), (8,), (9,))
    world.refresh()
    world.land("s", day(3), (40,))
    expect(world, s=[3], left=[3], right=[3, 4, 5], joined=[3, 4, 5, 6], weekly=[9])
    world.land("s", day(3), (4,))
    expect(world)
    world.check_stored(world.build)


@history
def an_identical_file_lands_again(folder: Path) -> None:
    world = World(folder, DIAMOND)
    land_days(world, "s", 0, (1,), (2,), (3,))
    world.refresh()
    world.land("s", day(1), (2,))
    expect(world)
    if world.process().refresh().runs:
        raise LawBroken("idle", "an identical file asked for a run")


@history
def a_change_that_comes_out_the_same_stops(folder: Path) -> None:
    graph = (
        Source("s"),
        Derived("most", "top", (Window("s"),)),
        Derived("below", "fold", (Window("most", -6, 0, False, 0),)),
    )
    world = World(folder, graph)
    land_days(world, "s", 0, (5, 4, 1), (6, 5, 1), (7, 6, 1))
    world.refresh()
    world.land("s", day(1), (6, 5, 2))
    expect(world, s=[1], most=[1])
    world.write_code(world.code.edited("most", 0))
    expect(world)


@history
def days_arrive_late_and_out_of_order(folder: Path) -> None:
    world = World(folder, (*DIAMOND, Derived("whole", "size", (Window("s", -6, 0, True, 2),))))
    for number in (4, 8, 0, 5, 1, 3, 2, 7, 6):
        world.land("s", day(number), (number,))
        world.refresh()


@history
def windows_have_their_first_and_their_last_day(folder: Path) -> None:
    spans = [(0, 0), (-1, 0), (-1, -1), (0, 1), (-6, 0), (-29, 0), (-399, 0), (2, 3)]
    graph: Graph = (
        Source("s"),
        *(Derived(f"w{n}", "size", (Window("s", *span, False, 0),)) for n, span in enumerate(spans)),
        *(Derived(f"v{n}", "size", (Window("s", *span, True, 1),), "week") for n, span in enumerate(spans)),
    )
    world = World(folder, graph)
    land_days(world, "s", 0, *(((number,) if number % 3 else (number, 1)) for number in range(11)))
    world.refresh()
    for number in (0, 5, 10):
        world.land("s", day(number), (number, 2, 3))
        world.refresh()


@history
def a_week_reads_more_than_a_hundred_days(folder: Path) -> None:
    graph = (Source("s"), Derived("model", "fold", (Window("s", -126, -1, False, 100),), "week"))
    world = World(folder, graph)
    land_days(world, "s", 0, *((number % 5,) for number in range(128)))
    expect(world, s=list(range(128)), model=[100, 107, 114, 121, 128])
    world.land("s", day(0), (9,))
    expect(world, s=[0], model=[100, 107, 114, 121])
    world.land("s", day(1), (9,))
    expect(world, s=[1], model=[100, 107, 114, 121])
    world.land("s", day(127), (9,))
    expect(world, s=[127], model=[128])


@history
def gaps_are_waited_for_or_passed_over(folder: Path) -> None:
    graph = (
        Source("s"),
        Source("t"),
        Derived("waiting", "fold", (Window("s", -2, 0, True, 1),)),
        Derived("passing", "fold", (Window("s", -2, 0, False, 1),)),
        Derived("careful", "fold", (Window("s", -2, 0, False, 2), Window("t", 0, 0, True, 1))),
        Derived("easy", "size", (Window("s", 0, 0, False, 0), Window("t", -1, 1, True, 0))),
    )
    world = World(folder, graph)
    land_days(world, "t", 3, (1,), (1,), (1,))
    land_days(world, "s", 0, (1,), (2,))
    world.refresh()
    land_days(world, "s", 4, (5,), (6,))
    world.refresh()
    land_days(world, "s", 2, (3,))
    world.refresh()
    world.remove("s", day(4))
    world.refresh()
    land_days(world, "s", 3, (4,), (5,))
    world.refresh()


@history
def tombstones_come_and_go(folder: Path) -> None:
    world = World(folder, (*DIAMOND, Derived("open", "size", (Window("s", -1, 1, False, 0),))))
    land_days(world, "s", 1, (1,), (2,), (3,), (4,))
    world.refresh()
    for number in (2, 4, 1, 3):
        world.remove("s", day(number))
        world.refresh()
    land_days(world, "s", 2, (2,), (3,))
    world.refresh()
    land_days(world, "s", 1, (1,), (2,), (3,), (4,))
    expect(world)


@history
def a_file_is_renamed_and_back(folder: Path) -> None:
    world = World(folder, DIAMOND)
    land_days(world, "s", 0, (1,), (2,), (3,), (4,), (5,))
    world.refresh()
    world.rename("s", day(4), day(5))
    expect(world, s=[5], left=[5], right=[4, 5], joined=[5])
    world.rename("s", day(5), day(4))
    expect(world)
    world.check_stored(world.build)


@history
def equal_days_and_empty_days_keep_their_own_identity(folder: Path) -> None:
    graph = (
        Source("s"),
        Derived("copy", "top", (Window("s"),)),
        Derived("dated", "days", (Window("copy", -1, 0, False, 0),)),
        Derived("after", "fold", (Window("dated", -1, 0, False, 0),)),
    )
    world = World(folder, graph)
    land_days(world, "s", 0, (7,), (7,), (), (), (7,))
    world.refresh()
    world.land("s", day(1), ())
    world.refresh()
    world.land("s", day(2), (7,))
    world.refresh()
    world.remove("s", day(0))
    world.refresh()


@history
def code_is_edited(folder: Path) -> None:
    graph = (
        Source("s"),
        Derived("a", "fold", (Window("s"),)),
        Derived("b", "top", (Window("s"),)),
        Derived("c", "fold", (Window("b", -1, 0, False, 0),)),
    )
    world = World(folder, graph)
    land_days(world, "s", 0, (1,), (2,))
    world.refresh()
    first = world.code
    world.write_code(type(first)(comment=3))
    expect(world)
    world.write_code(type(first)(mixed=1))
    expect(world, a=[0, 1], c=[0, 1])
    world.write_code(type(first)(kept=1))
    expect(world, b=[0, 1])
    world.write_code(first.edited("a", 1))
    expect(world, a=[0, 1])
    world.write_code(first.tuned("b", 1))
    expect(world, b=[0, 1], c=[0, 1])
    world.write_code(first)
    expect(world)


@history
def a_window_is_edited(folder: Path) -> None:
    def graph(first: int, last: int) -> Graph:
        return (Source("s"), Derived("days", "days", (Window("s", first, last, False, 0),)))

    world = World(folder, graph(-1, 11))
    land_days(world, "s", 0, *[(7,)] * 26)
    world.refresh()
    world.regraph(graph(-11, 1))
    expect(world, days=list(range(26)))
    world.regraph(graph(-11, 0))
    expect(world, days=list(range(26)))
    world.regraph(graph(-1, 11))
    expect(world)


STEP = 7
"""Of how many crossings one is tried; the slow tests try all."""


def crossings() -> range:
    return range(1, 400, STEP)


GATED: Graph = (
    Source("s"),
    Derived("open", "top", (Window("s"),)),
    Derived("gate", "gate", (Window("open"),)),
    Derived("below", "fold", (Window("gate", -1, 0, False, 0),)),
)


@history
def a_broken_file_leaves_the_last_good_version(folder: Path) -> None:
    world = World(folder, GATED)
    land_days(world, "s", 0, (1,), (2,))
    world.land("s", day(2), BROKEN)
    world.refresh()
    world.land("s", day(1), BROKEN)
    expect(world)
    world.write_code(world.code.edited("s", 1))
    expect(world, s=[0], open=[0], gate=[0], below=[0, 1])
    world.land("s", day(1), (2,))
    world.refresh()
    world.land("s", day(2), (3,))
    world.refresh()


@history
def a_gate_refuses_and_the_code_changes(folder: Path) -> None:
    world = World(folder, GATED)
    land_days(world, "s", 0, (1,), (2,))
    world.refresh()
    before = world.code
    world.land("s", day(1), (4,))
    expect(world, s=[1], open=[1])
    world.write_code(before.tuned("gate", 1).tuned("below", 1))
    expect(world, gate=[0, 1], below=[0, 1])
    world.write_code(before)
    expect(world)
    world.write_code(before.edited("gate", 1))
    expect(world, gate=[0, 1], below=[1])
    world.land("s", day(1), (2,))
    expect(world, gate=[1])


@history
def a_gate_keeps_to_the_inputs_that_were_accepted_last(folder: Path) -> None:
    graph = (Source("s"), Derived("gate", "gate", (Window("s"),)))
    for n, order in enumerate([(0, 5, 10), (10, 5, 0), (5, 10, 0)]):
        world = World(folder / str(n), graph)
        # Only the first three numbers are kept: all give the same version, from other inputs.
        for number in order:
            world.land("s", day(0), (0, 0, 0, number))
            world.refresh()
        world.land("s", day(0), (0, 0, 0, 4))
        world.refresh()
        world.write_code(world.code.tuned("gate", 1))
        expect(world, gate=[0])
        world.land("s", day(0), (0, 0, 0, order[-1]))
        expect(world)


@history
def inputs_that_came_back_are_those_that_were_accepted_last(folder: Path) -> None:
    graph = (Source("s"), Derived("gate", "gate", (Window("s"),)))
    world = World(folder, graph)
    # Both give the same version, so that nothing is set when the first comes back.
    for number in (2, 3, 2):
        world.land("s", day(0), (1, 1, 1, number))
        world.refresh()
    world.write_code(world.code.edited("gate", 3))
    expect(world)
    world.land("s", day(0), (1, 1, 1, 3))
    expect(world, gate=[0])


@history
def inputs_that_came_back_are_kept_to_when_others_are_refused(folder: Path) -> None:
    graph = (Source("s"), Derived("gate", "gate", (Window("s"),)))
    world = World(folder, graph)
    for last in [(1, 2), (1, 3), (1, 2), (4, 3)]:
        world.land("s", day(0), (1, 1, *last))
        world.refresh()
    # The new code would refuse what came in between, too.
    world.write_code(world.code.edited("gate", 4))
    expect(world, gate=[0])


@history
def what_is_reported_by_hand_is_seen_through(folder: Path) -> None:
    world = World(folder, DIAMOND)
    land_days(world, "s", 0, (1,), (2,), (3,))
    world.refresh()
    other = world.heads.now["s"][day(0)]
    old = world.heads.now["left"][day(1)]
    for asset, partition, version in [
        ("s", day(1), "deadbeef"),
        ("left", day(0), "f" * 32),
        ("left", day(2), "not a version of 32 characters.."),
        ("right", day(2), other),
        ("joined", day(1), "absent"),
    ]:
        world.report_by_hand(asset, partition, version)
    expect(world)
    world.land("s", day(1), (5,))
    world.refresh()
    world.heads.now["left"][day(1)] = old
    expect(world)
    world.report_by_hand("left", day(9), "deadbeef")
    expect(world)


@history
def objects_are_lost_and_damaged(folder: Path) -> None:
    for harm in (Path.unlink, flip_a_byte, cut_short):
        world = World(folder / harm.__name__, GATED)
        land_days(world, "s", 0, (1,), (2,), (3,))
        world.refresh()
        before = world.code
        world.damage("open", day(1), harm)
        expect(world)
        world.write_code(before.tuned("gate", 1))
        expect(world, open=[1], gate=[0, 1, 2], below=[0, 1, 2])
        world.damage("below", day(1), harm)
        world.damage("gate", day(2), harm)
        world.damage("s", day(0), harm)
        report = world.refresh(verify=True)
        if report.as_json()["computed"] != {"below": [day(1)], "gate": [day(2)], "s": [day(0)]}:
            raise LawBroken("exact", f"healed {report.as_json()['computed']}")
        world.check_stored(world.build)
        world.damage("s", day(1), harm)
        world.damage("open", day(1), harm)
        world.write_code(before.tuned("open", 1).tuned("gate", 2).tuned("below", 1))
        world.refresh(verify=True)
        world.check_stored(world.build)


@history
def the_index_is_lost(folder: Path) -> None:
    world = World(folder, GATED)
    land_days(world, "s", 0, (1,), (2,), (4,))
    world.refresh()
    world.lose_index()
    world.refresh()
    world.land("s", day(1), (3,))
    world.lose_index()
    world.refresh()
    world.land("s", day(1), (2,))
    world.lose_index()
    expect(world)


@history
def the_process_is_killed_anywhere(folder: Path) -> None:
    for crossing in crossings():
        world = World(folder / str(crossing), GATED)
        land_days(world, "s", 0, (1,), (2,))
        world.refresh()
        world.land("s", day(1), (4,))
        world.land("s", day(2), (8,))
        world.write_code(world.code.tuned("gate", 1))
        killed = world.crash(crossing)
        world.refresh()
        world.check_stored(world.build)
        if not killed:
            return


@history
def a_refresh_is_overtaken_anywhere(folder: Path) -> None:
    for crossing in crossings():
        world = World(folder / str(crossing), GATED)
        land_days(world, "s", 0, (1,), (2,))
        world.refresh()
        land_days(world, "s", 1, (3,), (6,))

        def change(world: World = world) -> None:
            world.land("s", day(1), (8,))
            world.remove("s", day(0))

        if not world.overtaken(crossing, change):
            return


@history
def a_tombstone_is_overtaken_anywhere(folder: Path) -> None:
    for crossing in crossings():
        world = World(folder / str(crossing), GATED)
        land_days(world, "s", 0, (1,), (2,), (3,))
        world.refresh()
        world.remove("s", day(1))
        world.land("s", day(2), (5,))
        if not world.overtaken(crossing, lambda world=world: world.land("s", day(1), (7,))):  # type: ignore[misc]
            return


@history
def one_file_lands_under_two_names(folder: Path) -> None:
    graph = (Source("s"), Source("t"), Derived("both", "fold", (Window("s"), Window("t"))))
    world = World(folder, graph)
    for source in ("s", "t"):
        land_days(world, source, 0, (1, 2), (1, 2))
    world.refresh()
    world.land("t", day(0), (3,))
    world.refresh()
    world.land("t", day(1), (3,))
    world.refresh()


@history
def a_table_without_partitions_changes(folder: Path) -> None:
    graph = (
        Source("s"),
        Source("n", "once"),
        Derived("m", "top", (Window("n"),), "once"),
        Derived("days", "fold", (Window("s"), Window("m"))),
        Derived("free", "fold", (Window("s"), Window("n", at_least=0))),
    )
    world = World(folder, graph)
    land_days(world, "s", 0, (1,), (2,))
    world.refresh()
    world.land("n", "", (5, 4, 3))
    world.refresh()
    world.land("n", "", (5, 4, 2))
    world.refresh()
    world.land("n", "", BROKEN)
    world.refresh()
    world.remove("n", "")
    world.refresh()
    world.land("n", "", (5, 4, 3))
    expect(world)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
