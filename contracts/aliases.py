"""Other spellings that requests are accepted in: OPEA's, OpenAI's, those of image services."""

import re
from collections.abc import Mapping
from typing import Any, Final

RENAMED: Final = {
    "n": "num_images_per_prompt",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
}
_SIZE: Final = re.compile(r"([0-9]{1,5})[xX]([0-9]{1,5})")
_NULL: Final = {"type": "null"}


def without_aliases(data: dict[str, Any]) -> dict[str, Any]:
    """Spell the aliases of a request for images as their fields. Raises ValueError."""
    data = renamed(without_job_id(data), RENAMED)
    _move(data, "size", _parse_size(data.get("size")))
    name = data.get("lora_weight_name_or_path")
    # OPEA clients send "" where they mean none.
    loras = None if name is None or name == "" else [{"name": name}]
    _move(data, "lora_weight_name_or_path", {"loras": loras})
    return data


def without_job_id(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out the job id, which the node reads from the body before. Raises ValueError."""
    if not isinstance(data.get("id"), str | None):
        raise ValueError("id is the job id, a string")
    return {name: value for name, value in data.items() if name != "id"}


def renamed(data: dict[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Spell aliases as their fields; null says nothing. Raises ValueError."""
    data, spelled = dict(data), dict[str, str]()
    for alias, field in aliases.items():
        value = data.pop(alias, None)
        if value is None:
            continue
        if data.get(field) is not None:
            raise _both(alias, spelled.get(field, field))
        data[field], spelled[field] = value, alias
    return data


def _move(data: dict[str, Any], alias: str, fields: dict[str, Any]) -> None:
    """Put an alias's values into fields; null says nothing."""
    data.pop(alias, None)
    for field, value in fields.items():
        if value is None:
            continue
        if data.get(field) is not None:
            raise _both(alias, field)
        data[field] = value


def _both(alias: str, other: str) -> ValueError:
    return ValueError(f"{alias} and {other} say the same thing: give one of them")


def _parse_size(size: Any) -> dict[str, int]:
    if size is None:
        return {}
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        raise ValueError('size is "WIDTHxHEIGHT" in pixels, for example "512x512"')
    return {"width": int(match[1]), "height": int(match[2])}


def describe_aliases(schema: dict[str, Any]) -> None:
    """Add the aliases to the JSON Schema of a request."""
    fields = schema["properties"]
    for alias, field in RENAMED.items():
        accepted = fields[field].get("anyOf")
        if accepted is None:
            bounds = {key: fields[field][key] for key in ("type", "minimum", "maximum")}
            accepted = [bounds, _NULL]
        fields[alias] = {"anyOf": accepted, "description": f"Alias of {field}."}
    fields["size"] = {
        "anyOf": [{"type": "string", "pattern": f"^{_SIZE.pattern}$"}, _NULL],
        "description": "Alias of width and height.",
        "examples": ["512x512"],
    }
    fields["lora_weight_name_or_path"] = {
        "anyOf": [{"type": "string"}, _NULL],
        "description": "Alias of loras with one name: an announced one, never a path or URL.",
    }
    describe_job_id(schema)


def describe_job_id(schema: dict[str, Any]) -> None:
    """Add the job id to the JSON Schema of a request."""
    schema["properties"]["id"] = {
        "anyOf": [{"type": "string"}, _NULL],
        "description": "The job id, where the AMQP property message_id is missing.",
    }
