"""The good files, made once."""

from __future__ import annotations

import pytest

from tests.cli.kit import make_kit


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    return make_kit(tmp_path_factory.mktemp("kit"))
