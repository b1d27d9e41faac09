"""The bare Diffusers call that the node is compared with."""

import asyncio
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from contracts.text2image import Text2ImageRequest


class DirectPipeline:
    """A pipeline loaded and called in one thread of its own, as Diffusers' documentation shows."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._pipeline: Any = None
        # Built in one thread and run in another, a model is 1.2 to 1.3 times slower.
        self._thread = ThreadPoolExecutor(max_workers=1)

    async def load(self, dtype: str | None) -> None:
        """Load the weights in the dtype that the node runs in."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load, dtype)

    async def make(self, request: Text2ImageRequest) -> float:
        """Make one PNG and return the seconds it took."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._make, request)

    def _load(self, dtype: str | None) -> None:
        from node.inference.quiet import quiet_libraries

        quiet_libraries()
        import torch
        from diffusers import AutoPipelineForText2Image

        self._pipeline = AutoPipelineForText2Image.from_pretrained(
            self._model, dtype=getattr(torch, dtype or "float32"), local_files_only=True
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def _make(self, request: Text2ImageRequest) -> float:
        import torch

        started_at = time.perf_counter()
        image = self._pipeline(
            prompt=request.prompt,
            num_inference_steps=request.num_inference_steps,
            generator=torch.Generator("cpu").manual_seed(request.seed),
        ).images[0]
        image.save(io.BytesIO(), "PNG")
        return time.perf_counter() - started_at
