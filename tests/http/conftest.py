"""Fixtures: fake services, an application over them, and its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from hotloop.app.factory import create_app
from hotloop.app.settings.settings import Settings
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import FakeServices


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def app(services: FakeServices) -> FastAPI:
    """Bodies up to 4,096 bytes, uploads up to 8,192."""
    settings = Settings(max_body_bytes=4_096, max_upload_bytes=8_192)
    return create_app(settings, services.open)


@pytest.fixture
def client(app: FastAPI) -> Iterator[Client]:
    with open_client(app) as client:
        yield client
