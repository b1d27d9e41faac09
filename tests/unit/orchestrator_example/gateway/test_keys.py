"""API keys: who they let in, what refusals say, and a file that changes while it is used."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from node.errors import SetupError
from node.tasks import running
from orchestrator_example.gateway import keys as module
from orchestrator_example.gateway.errors import Unauthorized
from orchestrator_example.gateway.keys import Caller, KeyRing
from orchestrator_example.gateway.keys_file import new_key
from tests.harness import until

TOKEN = "t2i_studio"
OTHER = "t2i_other"
DEFAULT = Caller("anonymous", requests_per_minute=30.0, concurrent=2)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


HASH = digest(TOKEN)


def entry(name: str, token: str, more: str = "") -> str:
    return f'  - name: {name}\n    sha256: "{digest(token)}"\n{more}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n" + entry("studio", TOKEN) + entry("batch", OTHER))
    return path


def ring(path: Path, text: str) -> KeyRing:
    path.write_text(text)
    return KeyRing.read(path, DEFAULT)


def refusal(ring: KeyRing, authorization: str | None, api_key: str | None = None) -> str:
    with pytest.raises(Unauthorized) as caught:
        ring.authenticate(authorization, api_key)
    return str(caught.value)


@pytest.mark.parametrize("authorization", [None, "", "Bearer None", "Bearer x", "Basic eA==", "\0"])
def test_without_a_file_everybody_is_one_caller_whatever_is_sent(authorization):
    assert KeyRing.read(None, DEFAULT).authenticate(authorization, "x") is DEFAULT


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_a_known_key_names_its_caller(path, authorization):
    assert KeyRing.read(path, DEFAULT).authenticate(authorization).name == "studio"


def test_a_key_may_come_in_x_api_key_beside_the_bearer_none_of_opea(path):
    assert KeyRing.read(path, DEFAULT).authenticate("Bearer None", OTHER).name == "batch"


@pytest.mark.parametrize(
    ("authorization", "says"),
    [
        (None, "send an API key in the header 'Authorization: Bearer KEY'"),
        ("", "send an API key"),
        (f"Basic {TOKEN}", "send an API key"),
        (TOKEN, "send an API key"),
        ("Bearer", "send an API key"),
        ("Bearer None", "it was given no API key"),
        (f"Bearer {TOKEN}x", "not known here"),
        (f"Bearer {TOKEN[:-1]}", "not known here"),
        (f"Bearer {digest(TOKEN)}", "not known here"),
        ("Bearer \udcff\u00ff".replace("\udcff", "\xfe"), "not known here"),
    ],
)
def test_a_refusal_says_what_to_do_and_never_quotes_the_key(path, authorization, says):
    text = refusal(KeyRing.read(path, DEFAULT), authorization)
    assert says in text
    assert TOKEN not in text


def test_an_entry_has_limits_of_its_own_else_the_default_and_null_is_none(path):
    text = "keys:\n" + entry("studio", TOKEN, "    requests_per_minute: 60\n    burst: 5\n")
    text += entry("batch", OTHER, "    concurrent: null\n")
    keys = ring(path, text)
    assert keys.authenticate(f"Bearer {TOKEN}") == Caller("studio", 60.0, 5, 2)
    assert keys.authenticate(f"Bearer {OTHER}") == Caller("batch", 30.0, None, None)


def test_a_json_file_is_read_as_well(path):
    keys = ring(path, json.dumps({"keys": [{"name": "a", "sha256": digest(TOKEN).upper()}]}))
    assert keys.authenticate(f"Bearer {TOKEN}").name == "a"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("keys: []", 1, "keys: List should have at least 1 item"),
        ("", 1, "Input should be"),
        ("[]", 1, "Input should be"),
        ("key:\n" + entry("a", TOKEN), 1, "no such field"),
        ("keys:\n" + entry("a", TOKEN, "    limit: 3\n"), 4, "keys.0.limit: no such field"),
        ("keys:\n" + entry("a b", TOKEN), 2, "keys.0.name: it must be 1..64 letters"),
        ("keys:\n" + entry("a", TOKEN, "    concurrent: 0\n"), 4, "greater than or equal to 1"),
        ("keys:\n" + entry("a", TOKEN, "    concurrent: true\n"), 4, "valid integer"),
        ("keys:\n" + entry("a", TOKEN, "    requests_per_minute: 0\n"), 4, "greater than 0"),
        ("keys:\n" + entry("a", TOKEN) + entry("a", OTHER), 4, "keys.1.name: 'a' is there twice"),
        ("keys:\n" + entry("a", TOKEN) + entry("b", TOKEN), 5, "is there twice"),
        ("keys:\n  - name: a", 2, "keys.0.sha256: Field required"),
        ("keys:\n  - {name: a", 2, "expected ',' or '}'"),
        ("keys:\n  - {name: a, name: b}", 2, "'name' is there twice"),
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line_with_its_place(path, text, line, says):
    with pytest.raises(SetupError) as caught:
        ring(path, text)
    told = str(caught.value)
    assert told.startswith(f"{path}, line {line}: ")
    assert says in told
    assert "\n" not in told


def test_a_hash_in_capitals_is_the_same_hash(path):
    text = "keys:\n" + entry("a", TOKEN) + entry("b", TOKEN).replace(digest(TOKEN), HASH.upper())
    with pytest.raises(SetupError, match="is there twice"):
        ring(path, text)


def test_a_key_written_where_its_hash_belongs_is_not_shown(path):
    with pytest.raises(SetupError) as caught:
        ring(path, f"keys:\n  - {{name: a, sha256: {TOKEN}}}")
    assert "keys.0.sha256: it must be a SHA-256" in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"keys: \x00"])
def test_a_file_of_other_bytes_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(SetupError, match=str(path)):
        KeyRing.read(path)


def test_a_missing_file_is_refused_at_start(tmp_path):
    with pytest.raises(SetupError, match="cannot be read"):
        KeyRing.read(tmp_path / "none.yaml")


def test_a_changed_file_lets_new_keys_in_and_old_ones_no_more(path):
    keys = KeyRing.read(path, DEFAULT)
    path.write_text("keys:\n" + entry("newcomer", "t2i_new"))
    keys.refresh()
    assert keys.authenticate("Bearer t2i_new").name == "newcomer"
    assert "not known here" in refusal(keys, f"Bearer {TOKEN}")


@pytest.mark.parametrize("fault", ["broken", "missing"])
def test_a_file_that_breaks_changes_no_key_and_is_told_once(path, fault):
    keys = KeyRing.read(path, DEFAULT)
    if fault == "broken":
        path.write_text("keys: 7")
    else:
        path.unlink()
    with capture_logs() as logs:
        keys.refresh()
        keys.refresh()
    assert [each["event"] for each in logs] == ["keys.refused"]
    assert str(path) in logs[0]["reason"]
    assert keys.authenticate(f"Bearer {TOKEN}").name == "studio"


def test_a_file_that_did_not_change_is_not_read_again(path):
    keys = KeyRing.read(path, DEFAULT)
    with capture_logs() as logs:
        keys.refresh()
    assert logs == []


async def test_a_file_is_looked_at_again_and_again(path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    keys = KeyRing.read(path, DEFAULT)
    before = keys.authenticate(f"Bearer {TOKEN}")
    async with running(watch=keys.watch()):
        for burst in (3, 4):
            text = "keys:\n" + entry("studio", TOKEN, f"    burst: {burst}\n")
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").replace(path)
            changed = replace(before, burst=burst)
            await until(lambda to=changed: keys.authenticate(f"Bearer {TOKEN}") == to)


async def test_without_a_file_nothing_is_watched():
    await KeyRing.read(None).watch()


def test_a_new_key_works_once_its_entry_is_in_the_file(path):
    token, text = new_key("studio")
    assert token.startswith("t2i_")
    assert len(token) == len("t2i_") + 43  # 256 bits in base64
    assert token not in text
    assert ring(path, "keys:\n" + text).authenticate(f"Bearer {token}").name == "studio"


@pytest.mark.parametrize("name", ["1.5", "yes", "null", "0x10", "2026-01-01", "a" * 64])
def test_a_name_that_yaml_reads_as_something_else_stays_a_name(path, name):
    token, text = new_key(name)
    assert ring(path, "keys:\n" + text).authenticate(f"Bearer {token}").name == name


@pytest.mark.parametrize("name", ["", "a b", "-x", "a" * 65, "é", 'a"b', "a\nb"])
def test_a_key_for_an_impossible_name_is_refused(name):
    with pytest.raises(SetupError, match=r"1\.\.64 letters"):
        new_key(name)


def test_two_new_keys_differ():
    assert new_key("a")[0] != new_key("a")[0]
