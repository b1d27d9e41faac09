"""Operators find every setting in the documentation."""

from pathlib import Path

import pytest

from orchestrator_example.gateway.settings import GatewaySettings

DOCUMENT = (Path(__file__).parents[4] / "docs/gateway.md").read_text()
SETTINGS = DOCUMENT[DOCUMENT.index("## Settings") :]


@pytest.mark.parametrize("name", GatewaySettings.model_fields)
def test_every_setting_is_named_in_the_documentation(name: str) -> None:
    assert f"`{name.upper()}`" in SETTINGS
    assert GatewaySettings.model_fields[name].description
