"""How much of a prompt the text encoders read."""

import inspect
from collections.abc import Iterator
from typing import Any, Final

_TOKENIZERS: Final = ("tokenizer", "tokenizer_2", "tokenizer_3")
# Tokenizers without a limit say so with 10**30.
_NO_LIMIT: Final = 100_000


def truncation_warnings(pipeline: Any, texts: dict[str, str]) -> list[str]:
    """Say for each text, by request field, which tokenizer reads only a part of it."""
    warnings = [
        f"{field}: {name} counts {count} tokens and its text encoder reads {limit}: "
        f"the last {count - limit} were dropped"
        for name, tokenizer, limit in _limited_tokenizers(pipeline)
        for field, text in texts.items()
        if (count := len(tokenizer(text).input_ids)) > limit
    ]
    return list(dict.fromkeys(warnings))


def _limited_tokenizers(pipeline: Any) -> Iterator[tuple[str, Any, int]]:
    for attribute in _TOKENIZERS:
        tokenizer = getattr(pipeline, attribute, None)
        if not callable(tokenizer):
            continue
        name = type(tokenizer).__name__
        limit = tokenizer.model_max_length
        if not name.startswith("CLIP"):
            limit = _max_sequence_length(pipeline) or limit
        if limit < _NO_LIMIT:
            yield name, tokenizer, limit


def _max_sequence_length(pipeline: Any) -> int | None:
    parameter = inspect.signature(pipeline.__call__).parameters.get("max_sequence_length")
    return parameter.default if parameter and isinstance(parameter.default, int) else None
