"""The broker of the compose demo begins with what its services need, and with nothing else."""

import base64
import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from yarl import URL

from contracts.topology import service_topology
from deploy import definitions
from deploy.definitions import (
    ADMIN,
    FILE,
    MEGASERVICES,
    ROLES,
    SERVICES,
    USERS,
    keep_new_passwords,
    known_to_compose,
    make_definitions,
    offered_models,
    password_variable,
    passwords,
    to_json,
)
from node.errors import SetupError

ROOT = Path(__file__).parents[3]
WITH_DEFAULT = re.compile(r"\$\{[A-Z0-9_]+:?-(.*?)\}")


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODE_MODEL", "NODE_MODELS", "MODEL", *map(password_variable, USERS)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def made(clean_environment: None) -> dict[str, Any]:
    return make_definitions(passwords({}), offered_models({}))


@pytest.fixture
def services() -> dict[str, Any]:
    """The services of the compose file, as they are without any variable set."""
    text = WITH_DEFAULT.sub(r"\1", (ROOT / "docker-compose.yml").read_text())
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


def served_by(service: dict[str, Any]) -> set[str]:
    """What a container of the compose file serves."""
    megaservices = service["environment"].get("GATEWAY_MEGASERVICES")
    return set(megaservices.split(",")) if megaservices else {service["command"][-1]}


def logins(services: dict[str, Any]) -> dict[str, URL]:
    nodes = {name: each for name, each in services.items() if name != "broker"}
    return {name: URL(each["environment"]["NODE_AMQP_URL"]) for name, each in nodes.items()}


def test_the_file_in_the_tree_is_what_is_made(made: dict[str, Any]) -> None:
    assert FILE.read_text() == to_json(made), "run: python -m deploy.definitions"


def test_there_are_the_users_of_the_services_and_one_for_people(made: dict[str, Any]) -> None:
    tags = {user["name"]: user["tags"] for user in made["users"]}
    assert tags == {**{user: [] for user in ROLES}, ADMIN: ["administrator"]}


def test_every_user_has_a_password_of_its_own_that_the_broker_can_check(
    made: dict[str, Any],
) -> None:
    for user in made["users"]:
        hashed = base64.b64decode(user["password_hash"])
        password = passwords({})[user["name"]].encode()
        assert hashed[4:] == hashlib.sha256(hashed[:4] + password).digest()
    assert len({user["password_hash"] for user in made["users"]}) == len(USERS)


def test_the_containers_log_in_as_users_who_may_do_what_they_serve(
    services: dict[str, Any],
) -> None:
    for name, url in logins(services).items():
        assert url.user is not None
        assert url.password == passwords({})[url.user]
        assert set(ROLES[url.user].serves) == served_by(services[name])


def test_no_two_services_log_in_as_the_same_user(services: dict[str, Any]) -> None:
    users = [url.user for url in logins(services).values()]
    assert sorted(map(str, users)) == sorted(ROLES)


def test_everything_is_declared_that_nodes_check_for(made: dict[str, Any]) -> None:
    there = {each["name"] for kind in ("exchanges", "queues") for each in made[kind]}
    for service in (*SERVICES, *MEGASERVICES):
        topology = service_topology(service, [])
        assert {each.name for each in (*topology.exchanges, *topology.queues)} <= there


def test_nothing_is_declared_twice(made: dict[str, Any]) -> None:
    for kind, entities in made.items():
        written = [json.dumps(each, sort_keys=True) for each in entities]
        assert len(set(written)) == len(written), kind


def test_models_that_are_asked_for_have_queues_of_their_own(clean_environment: None) -> None:
    models = offered_models({"NODE_MODEL": "org/Big", "NODE_MODELS": "org/small, emoji-scenes"})
    queues = {each["name"] for each in make_definitions(passwords({}), models)["queues"]}
    for service in ("text2image", "image2image"):
        for slug in ("org-big", "org-small", "emoji-scenes"):
            assert f"{service}.model.{slug}" in queues
    assert "captioner.model.org-big" not in queues


def test_a_password_that_breaks_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="GATEWAY_PASSWORD: use letters"):
        passwords({"GATEWAY_PASSWORD": "p@ss/word"})


def test_new_passwords_replace_old_ones_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    keep_new_passwords(file)
    first = known_to_compose(file, {})
    file.write_text(file.read_text() + "GATEWAY_PORT=8080\n# by hand\n")
    keep_new_passwords(file)
    second = known_to_compose(file, {})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert second.pop("GATEWAY_PORT") == "8080"
    assert first.keys() == second.keys() == {password_variable(user) for user in USERS}
    assert not set(first.values()) & set(second.values())
    assert "# by hand" in file.read_text()
    assert set(passwords(second).values()) == set(second.values())


def test_the_environment_counts_more_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("NODE_MODEL=one\nGATEWAY_PORT=1\n")
    assert known_to_compose(file, {"GATEWAY_PORT": "2"}) == {
        "NODE_MODEL": "one",
        "GATEWAY_PORT": "2",
    }


def test_the_command_keeps_new_passwords_and_writes_what_belongs_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "definitions.json"
    assert definitions.main(["--new-passwords", "--out", str(out)]) == 0
    secret = passwords(known_to_compose(Path(".env"), {}))
    assert out.read_text() == to_json(make_definitions(secret, offered_models({})))
    assert secret != passwords({})


def test_the_command_says_what_it_cannot_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    clean_environment: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert definitions.main(["--out", str(tmp_path / "missing" / "file.json")]) == 1
    assert "error: " in capsys.readouterr().err


def test_a_model_that_cannot_be_named_is_refused(clean_environment: None) -> None:
    with pytest.raises(SetupError):
        offered_models({"NODE_MODEL": "emoji-scenes", "NODE_MODELS": "[broken"})
