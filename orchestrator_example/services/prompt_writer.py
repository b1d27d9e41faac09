"""The prompt writer: free text becomes a prompt that the picture model understands."""

from pathlib import Path
from typing import Any, ClassVar

from contracts.message import Message
from contracts.prompt_writer import PROMPT_WRITER, PromptWriterRequest, PromptWriterResult
from contracts.result import JobResult, Status, Timings
from node.component import Invocation
from node.inference.device import DeviceChoice
from orchestrator_example.services.checkpoint_component import CheckpointComponent, StopRequested


class PromptWriter(CheckpointComponent):
    """Writes prompts with the shipped model, or any causal or seq2seq model of transformers."""

    name: ClassVar[str] = PROMPT_WRITER
    service_type: ClassVar[str] = "LLM"
    description: ClassVar[str] = "Writes prompts for the picture model from free text"
    request_model: ClassVar[type[Message]] = PromptWriterRequest
    result_model: ClassVar[type[JobResult]] = PromptWriterResult
    shipped: ClassVar[str] = "emoji-prompt-writer"

    def build(self, name: str, folder: Path, choice: DeviceChoice) -> Any:
        """Load the language model."""
        from orchestrator_example.services.prompt_generation import PromptModel

        return PromptModel(name, folder, choice)

    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Write the prompt."""
        assert isinstance(request, PromptWriterRequest)

        def write(model: Any, stop_requested: StopRequested) -> Any:
            report = invocation.inference_step
            return model.write(request.text, request.max_new_tokens, report, stop_requested)

        written = await self.run("a prompt", invocation, write)
        cut = "text: it is longer than the model reads; the prompt was written from its beginning"
        return PromptWriterResult(
            job_id=invocation.job_id,
            status=Status.SUCCEEDED,
            text=written.text,
            model=self.model_name,
            revision=self.revision,
            warnings=[cut] if written.truncated else [],
            metadata=request.metadata,
            timings=Timings(
                encode_seconds=written.encode_seconds, denoise_seconds=written.generate_seconds
            ),
        )
