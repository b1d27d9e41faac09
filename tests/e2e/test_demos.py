"""`make demo-megaservice`, run as its target runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
DEMO_SECONDS = 300.0


def test_the_mega_service_prints_each_stage_and_paints_a_rejected_picture_again(
    clean_amqp_url: str, tmp_path: Path
) -> None:
    given = {"NODE_AMQP_URL": clean_amqp_url, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    demo = subprocess.run(
        [sys.executable, "-m", "deploy.demo_megaservice"],
        cwd=tmp_path,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    picture, again, refused = re.split(r"^\$ python -m .*$", demo.stdout, flags=re.MULTILINE)[1:]
    stages = ["guardrail", "prompt-writer", "text2image", "captioner"]
    for said in (picture, again, refused):
        assert re.findall(r"^([a-z0-9-]+) +(?:ok|not taken) ", said, re.MULTILINE) == stages
    assert "shows the prompt" in picture
    assert "seed 42" in picture
    assert "seed 1, 2 attempts" in again
    assert "shows the prompt, 2 attempts" in again
    assert "text2image     not taken" in refused
    assert "safety_refused" in demo.stderr
    files = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert files == {"megaservice.png", "megaservice-second.png"}
    for name in files:
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (128, 128)
