"""Several models that one process loads at the same time are all whole."""

import asyncio

import pytest

from node.component import Component
from node.inference.component import Text2ImageComponent
from node.settings import Settings
from orchestrator_example.services.captioner import Captioner
from orchestrator_example.services.prompt_writer import PromptWriter


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_models_of_three_services_are_loaded_at_once() -> None:
    kinds = (PromptWriter, Captioner, Text2ImageComponent)
    components: list[Component] = [kind(Settings()) for kind in kinds * 3]
    try:
        await asyncio.gather(*(each.load(lambda _: None) for each in components))
        assert all(each.health().healthy for each in components)
    finally:
        for each in components:
            await each.close()
