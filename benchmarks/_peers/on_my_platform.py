"""my_platform on the small domain: a refresh in a process of its own, as its code versions are read at import."""

import json
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks._peers.commands import run
from benchmarks._peers.shop import COLUMNS, Contents
from benchmarks._peers.system import Answer, Code, Edit, Way

HERE = Path(__file__).parent


class MyPlatform:
    name = "my_platform"
    ways = (Way("refresh", "refresh", "refresh"),)
    code = Code(
        "shop_domain.py",
        cosmetic=(
            (
                "    return (\n        transactions.group_by",
                "    # By customer.\n    return (\n        transactions.group_by",
            ),
            ('"cents_30d"), pl.len()', '"cents_30d"),\n            pl.len()'),
        ),
        real=(('pl.col("amount_cents").sum()', '(pl.col("amount_cents") + 25).sum()'),),
    )

    def versions(self) -> str:
        return f"my_platform {version('my-platform')}"

    def build(self, folder: Path) -> None:
        shutil.copy(HERE / "my_platform_domain.py", folder / self.code.file)
        _refresh(folder)

    def contents(self, folder: Path) -> Contents:
        return _refresh(folder).contents

    def answer(self, folder: Path, way: Way, edit: Edit) -> Answer:
        edit.apply(folder)
        return _refresh(folder)


def _refresh(folder: Path) -> Answer:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MY_PLATFORM_", "DAGSTER_"))
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(HERE.parent.parent)])
    answer = folder / "answer.json"
    run(
        [sys.executable, "-m", "benchmarks._peers.on_my_platform", str(folder), str(answer)],
        folder,
        environment,
    )
    said = json.loads(answer.read_text())
    return Answer(
        [(asset, day) for asset, days in said["computed"].items() for day in days],
        {(asset, day): [tuple(row) for row in rows] for asset, day, rows in said["contents"]},
    )


def _main(folder: Path, answer: Path) -> None:
    from my_platform.operations import session
    from my_platform.settings import load_settings

    settings = load_settings(home=folder, domains="shop_domain")
    with session.opened(settings) as opened:
        report = opened.refresh()
        contents = [
            (
                asset,
                day,
                sorted(opened.workspace.lake.read(asset, day, head).select(COLUMNS[asset]).iter_rows()),
            )
            for asset, heads in opened.versions().items()
            for day, head in heads.items()
        ]
    answer.write_text(json.dumps({"computed": report.as_json()["computed"], "contents": contents}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
