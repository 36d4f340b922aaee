"""The tests on CUDA import no pytest, so their mark is set here."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name == "test_cuda.py":
            item.add_marker(pytest.mark.gpu)
