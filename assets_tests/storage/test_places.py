"""Names that no source should use: they are told, harm nobody, and keep no other file from landing."""

import os
import re
from pathlib import Path

import boto3
import pytest

from assets_tests.storage.conftest import BUCKET
from my_platform.incremental.declare import Grain, ordinal
from my_platform.storage.landing import Landing
from my_platform.storage.places import LandingBucket, LandingFolder
from my_platform.storage.trace_index import TraceIndex

TABLES = {"sales": Grain.DAY}
DAY = "2018-04-01"


def unusable(landing: Landing) -> dict[str, str]:
    found = landing.scan(TABLES)["sales"]
    assert list(found.digests) == [ordinal(DAY)]
    assert list(found.misnamed) in ([], ["sales/größe.csv"])
    return dict(found.unusable)


def test_strange_names_in_a_folder_are_told_as_they_can_be_printed(tmp_path: Path) -> None:
    folder = tmp_path / "landing" / "sales"
    folder.mkdir(parents=True)
    strange = [
        "a\nb.parquet",
        "\x1b[31mred.csv",
        "up\\..\\..\\up.csv",
        "x" * 247 + ".parquet",
        "größe.csv",
        "\u202ereversed.csv",
    ]
    for name in (f"{DAY}.parquet", *strange):
        (folder / name).write_bytes(b"x")
    with open(os.fsencode(folder) + b"/not utf-8 \xff.csv", "wb"):
        pass
    found = unusable(Landing(LandingFolder(tmp_path / "landing"), TraceIndex(tmp_path / "index.sqlite")))
    assert len(found) == len(strange)
    words = "\n".join(found.values())
    assert all(line.isprintable() for line in words.split("\n"))
    for part in (r"sales/a\nb.parquet", r"\x1b[31mred", r"\u202ereversed", r"utf-8 \udcff"):
        assert part in words
    assert re.search(r"…x+\.parquet \(\d{3} characters\)", words)
    assert all(len(line) < 600 for line in words.split("\n"))


@pytest.mark.s3
@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_keys_of_a_bucket_that_are_no_paths_keep_no_other_from_landing(location: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    prefix = location.removeprefix(f"s3://{BUCKET}/")
    strange = ["../escape.parquet", "/double.parquet", "./here.parquet", "x" * 300 + ".parquet"]
    for name in (f"{DAY}.parquet", *strange):
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/sales/{name}", Body=b"x")
    landing = Landing(LandingBucket(location), TraceIndex(tmp_path / "index.sqlite"))
    assert sorted(unusable(landing)) == sorted(f"sales/{name}" for name in strange)
    landed = landing.scan(TABLES)["sales"]
    assert landing.still(landed, ordinal(DAY))
