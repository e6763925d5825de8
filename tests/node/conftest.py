"""Nodes for the tests of this folder; see harness.py."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.carriers.smtp_servers import Certificates, make_certificates
from tests.node.harness import Node, make_data, running


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder as a first start leaves it: to be copied."""
    folder = tmp_path_factory.mktemp("first-start")
    yield make_data(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def node(tmp_path: Path, data: Path) -> AsyncIterator[Node]:
    """A running node with mock carriers on every channel."""
    async with running(tmp_path, data=data) as node:
        yield node


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and a certificate for this machine."""
    return make_certificates(tmp_path_factory.mktemp("tls"))
