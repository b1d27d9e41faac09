"""The command line of a mega-service: what it reads, and what it refuses."""

import subprocess
import sys

import pytest

from node.errors import SetupError
from orchestrator_example.ask import _request


def test_values_are_json_where_they_can_be_and_text_where_not() -> None:
    request = _request(
        "a cat", ["text2image.seed=42", "text2image.scheduler=DDIM"], ["repaint=a dog", "seed=1"]
    )
    assert request.model_extra == {
        "prompt": "a cat",
        "parameters": {"text2image": {"seed": 42, "scheduler": "DDIM"}},
        "repaint": "a dog",
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("word", "why"), [("seed=1", "names no stage"), ("text2image.seed", "gives no value")]
)
def test_what_is_no_assignment_is_refused_with_how_to_write_it(word: str, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        _request("a cat", [word], [])


def test_without_a_broker_it_says_so_in_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "orchestrator_example", "ask", "a cat"],
        env={"NODE_AMQP_URL": "amqp://127.0.0.1:1/", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error ")
    assert "NODE_AMQP_URL" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
