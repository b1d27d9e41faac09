"""Run every training in turn: `python -m training`, which is `make train-demo-models`.

Each program resumes from its checkpoint, so what was interrupted goes on when this is run again,
and what was finished takes seconds.
"""

import os
import subprocess
import sys
import time

from training.places import RUNS, SHIPPED, exit_without_font

# Minutes on two free cores of 2024 (Zen 5), beside nothing else.
PROGRAMS = (
    ("autoencoder", 10),
    ("latents", 10),
    ("text2image", 50),
    ("export", 1),
    ("captioner", 8),
    ("prompt_writer", 20),
)


def main() -> None:
    """Train and export all models into `runs`; what ships is left alone."""
    exit_without_font()
    total = sum(minutes for _, minutes in PROGRAMS)
    print(f"training three models from scratch: about {total} minutes on two free CPU cores")
    print(f"interrupt it whenever you like: run again, it goes on from the checkpoints in {RUNS}/")
    began = time.monotonic()
    for name, minutes in PROGRAMS:
        print(f"training.{name}: about {minutes} minutes from scratch", flush=True)
        _run(name)
    print(f"finished after {(time.monotonic() - began) / 60:.0f} minutes; now evaluate with")
    exports = RUNS / "export"
    print(
        f"  python -m training.evaluate --text2image {exports / 'text2image'} --captioner "
        f"{exports / 'captioner'} --prompt-writer {exports / 'prompt_writer'} --reports {RUNS}"
    )
    print(f"and copy the exports over the folders in {SHIPPED} to ship them")


def _run(name: str) -> None:
    # Workers are processes of one thread; more threads would only wait for each other.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", f"training.{name}"], env=environment, check=False)
    if done.returncode:
        sys.exit(f"error: training.{name} failed with exit code {done.returncode}; see above")


if __name__ == "__main__":
    main()
