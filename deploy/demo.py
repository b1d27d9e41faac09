"""`make demo`: one node, one request, one picture, nothing left behind.

Expects a broker in NODE_AMQP_URL, as `deploy.local_broker run` provides. Runs the commands that a
person would type, and prints them.
"""

import subprocess
import sys
from typing import Final

from deploy.demo_nodes import OUT, served, show, wait_until_ready
from node.log import configure_logging

PROMPT: Final = "An astronaut riding a green horse"


def main() -> int:
    """Run the demo; returns the exit code."""
    configure_logging("console", "ERROR")
    with served("text2image") as node:
        if not wait_until_ready(node):
            return 1
        command = ["submit", PROMPT, "--seed", "42", "--out", str(OUT / "demo.png")]
        show(command)
        return subprocess.run([sys.executable, "-m", "node", *command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
