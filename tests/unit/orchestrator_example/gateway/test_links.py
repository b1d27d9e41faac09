"""Links to pictures work for who got them, for a while, for one picture."""

import pytest

from orchestrator_example.gateway import links as links_module
from orchestrator_example.gateway.errors import LinkExpired
from orchestrator_example.gateway.links import FILES_PATH, Links


def parts(path: str) -> tuple[str, int, int, str]:
    place, _, query = path.partition("?")
    job_id, index = place.removeprefix(f"{FILES_PATH}/").split("/")
    values = dict(each.split("=") for each in query.split("&"))
    return job_id, int(index), int(values["expires"]), values["signature"]


def test_a_link_works() -> None:
    links = Links("secret", 60)
    links.check(*parts(links.path("job", 3)))


def test_gateways_with_the_same_secret_know_each_others_links() -> None:
    Links("secret", 60).check(*parts(Links("secret", 60).path("job", 0)))


@pytest.mark.parametrize("other", ["another secret", None, ""])
def test_links_of_others_do_not_work(other: str | None) -> None:
    with pytest.raises(LinkExpired, match="not one of this gateway"):
        Links("secret", 60).check(*parts(Links(other, 60).path("job", 0)))


def test_without_a_secret_each_process_has_one_of_its_own() -> None:
    with pytest.raises(LinkExpired):
        Links(None, 60).check(*parts(Links(None, 60).path("job", 0)))


@pytest.mark.parametrize(
    "changed", [{"job_id": "other"}, {"index": 1}, {"expires": 2**62}, {"signature": "é" * 64}]
)
def test_a_link_is_for_one_picture_until_one_moment(changed: dict[str, object]) -> None:
    links = Links("secret", 60)
    job_id, index, expires, signature = parts(links.path("job", 0))
    given = {"job_id": job_id, "index": index, "expires": expires, "signature": signature}
    with pytest.raises(LinkExpired, match="not one of this gateway"):
        links.check(**given | changed)  # type: ignore[arg-type]


def test_a_link_stops_working(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links("secret", 60)
    link = parts(links.path("job", 0))
    later = links_module.time.time() + 61
    monkeypatch.setattr(links_module.time, "time", lambda: later)
    with pytest.raises(LinkExpired, match="for a while"):
        links.check(*link)
