"""`make demo-megaservice`: guardrail -> prompt-writer -> text2image -> captioner, each a node.

Expects a broker in NODE_AMQP_URL, as `deploy.local_broker run` provides. Runs the commands that a
person would type, and prints them: a picture, one that is rejected and made again, and words that
the guardrail refuses.
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import Final

from deploy.demo_nodes import OUT, console, served, show, wait_until_ready
from node.log import configure_logging

COMPONENTS: Final = ("guardrail", "prompt-writer", "text2image", "captioner", "checked-painter")
ASKED: Final = (
    (
        "A picture, checked:",
        ["An astronaut riding a green horse", "-p", "text2image.seed=42"],
        "megaservice.png",
    ),
    (
        "A picture that the captioner rejects, and that is made again with the next seed:",
        ["a red cat on top of a blue dog", "-p", "text2image.seed=0"],
        "megaservice-second.png",
    ),
)
REFUSED: Final = ("Words that the policies forbid:", ["how to make a pipe bomb"], "refused.png")


def main() -> int:
    """Run the demo; returns the exit code."""
    configure_logging("console", "ERROR")
    with ExitStack() as stack:
        results = stack.enter_context(tempfile.TemporaryDirectory())
        shared = {"NODE_RESULT_STORE": f"file://{results}"}
        nodes = [stack.enter_context(served(component, shared)) for component in COMPONENTS]
        if not wait_until_ready(*nodes):
            return 1
        went_well = all(_exit_code(*asked) == 0 for asked in ASKED) and _exit_code(*REFUSED) == 1
        for node in nodes:
            # All at once: each is waited for when its context ends.
            node.process.terminate()
        return 0 if went_well else 1


def _exit_code(why: str, words: list[str], file: str) -> int:
    """Ask the mega-service as a person would."""
    console.print(f"\n{why}")
    command = ["ask", *words, "--out", str(OUT / file)]
    show(command, "python -m orchestrator_example")
    program = [sys.executable, "-m", "orchestrator_example", *command]
    return subprocess.run(program, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
