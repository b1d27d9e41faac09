"""What an operator can set, and what a mistake is answered with."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from node.settings import DEFAULT_AMQP_URL, Settings


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("NODE_") or name in ("MODEL", "HF_TOKEN"):
            monkeypatch.delenv(name)


def test_everything_has_a_default() -> None:
    settings = Settings()
    assert settings.amqp_url == [DEFAULT_AMQP_URL]
    assert (settings.http_port, settings.slots, settings.model) == (8081, 1, None)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_explained(name: str) -> None:
    assert Settings.model_fields[name].description


def test_names_have_a_prefix_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_SLOTS", "3")
    monkeypatch.setenv("NODE_HTTP_PORT", "9000")
    monkeypatch.setenv("NODE_CACHE_DIR", "/models")
    monkeypatch.setenv("NODE_CONFIGURE_TOPOLOGY", "false")
    monkeypatch.setenv("SLOTS", "99")
    settings = Settings()
    assert (settings.slots, settings.http_port) == (3, 9000)
    assert settings.cache_dir == Path("/models")
    assert settings.configure_topology is False


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_AMQP_URL", "amqp://one/, amqp://two/ ,")
    monkeypatch.setenv("NODE_MODELS", "org/a@main,./local")
    settings = Settings()
    assert settings.amqp_url == ["amqp://one/", "amqp://two/"]
    assert settings.models == ["org/a@main", "./local"]


def test_a_list_may_be_json_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_MODELS", '["org/a", "org/b"]')
    assert Settings().models == ["org/a", "org/b"]


def test_the_model_is_also_read_under_the_name_that_opea_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL", "opea/model")
    assert Settings().model == "opea/model"
    monkeypatch.setenv("NODE_MODEL", "our/model")
    assert Settings().model == "our/model"


def test_the_token_is_read_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    settings = Settings()
    assert settings.hf_token == "hf_secret"
    assert "hf_secret" not in repr(settings)


def test_what_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_SLOTS", "")
    monkeypatch.setenv("NODE_MODEL", "")
    assert (Settings().slots, Settings().model) == (1, None)


def test_what_is_given_in_code_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_SLOTS", "3")
    assert Settings(slots=2, model="given").slots == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NODE_SLOTS", "0"),
        ("NODE_SLOTS", "many"),
        ("NODE_HTTP_PORT", "65536"),
        ("NODE_HEARTBEAT_SECONDS", "61"),
        ("NODE_PUBLISH_TIMEOUT_SECONDS", "0"),
        ("NODE_GRACE_SECONDS", "-1"),
        ("NODE_LOG_LEVEL", "LOUD"),
        ("NODE_LOG_FORMAT", "xml"),
        ("NODE_INSTANCE_ID", "with spaces"),
        ("NODE_CONFIGURE_TOPOLOGY", "perhaps"),
    ],
)
def test_a_bad_value_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    (error,) = raised.value.errors()
    assert error["loc"] == (name.removeprefix("NODE_").lower(),)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().slots = 2
