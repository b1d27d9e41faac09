"""Keeps progress bars and advice of the libraries off the console.

Called before anything else is imported from Diffusers: importing it already talks.
"""

import logging

from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import disable_progress_bars
from transformers.utils import logging as transformers_logging


def quiet_libraries() -> None:
    """Let the libraries log errors only, through our own handler, and draw no bars."""
    for library in (transformers_logging, diffusers_logging):
        library.disable_default_handler()
        library.enable_propagation()
        library.set_verbosity_error()
        library.disable_progress_bar()
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
