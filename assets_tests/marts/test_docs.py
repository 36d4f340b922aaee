"""dbt's documentation of the marts."""

from pathlib import Path
from typing import Any

from my_platform.marts.docs import write_docs


def test_the_documentation_is_one_page_with_sql_types_and_tests(project: Any, tmp_path: Path) -> None:
    page = write_docs(project.folder, project.target, tmp_path / "docs")

    assert [file.name for file in page.parent.iterdir()] == ["index.html"]
    text = page.read_text()
    assert "count(distinct customer_id)" in text
    assert '"fraud_rate": {"type": "DOUBLE"' in text
    assert "unique_together_daily_fraud_by_segment" in text
