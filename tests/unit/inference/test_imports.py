"""What can be imported without the weight of torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "accelerate")
LIGHT = ("node.inference.component", "node.client", "node.worker", "node.app", "node.cli")


@pytest.mark.parametrize("module", LIGHT)
def test_importing_it_imports_no_torch(module: str) -> None:
    program = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
