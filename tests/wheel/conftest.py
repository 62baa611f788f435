from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--wheel", type=Path, required=True, help="folder of the built wheel")


@pytest.fixture(scope="session")
def wheel(request: pytest.FixtureRequest) -> Path:
    (found,) = request.config.getoption("--wheel").glob("dpu-*.whl")
    return found
