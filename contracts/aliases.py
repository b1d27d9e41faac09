"""Other spellings that a request is accepted in: OPEA's and those of other image services."""

import re
from typing import Any, Final

RENAMED: Final = {
    "n": "num_images_per_prompt",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
}
_SIZE: Final = re.compile(r"([0-9]{1,5})[xX]([0-9]{1,5})")
_NULL: Final = {"type": "null"}


def without_aliases(data: dict[str, Any]) -> dict[str, Any]:
    """Spell aliases as their fields. Raises ValueError where both are given."""
    data = dict(data)
    # The job id, which the node reads from the body before it validates the rest.
    if not isinstance(data.pop("id", None), str | None):
        raise ValueError("id is the job id, a string")
    for alias, field in RENAMED.items():
        _move(data, alias, {field: data.get(alias)})
    _move(data, "size", _parse_size(data.get("size")))
    name = data.get("lora_weight_name_or_path")
    # OPEA clients send "" where they mean none.
    loras = None if name is None or name == "" else [{"name": name}]
    _move(data, "lora_weight_name_or_path", {"loras": loras})
    return data


def _move(data: dict[str, Any], alias: str, fields: dict[str, Any]) -> None:
    """Put an alias's values into fields; null says nothing."""
    data.pop(alias, None)
    for field, value in fields.items():
        if value is None:
            continue
        if data.get(field) is not None:
            raise ValueError(f"{alias} and {field} say the same thing: give one of them")
        data[field] = value


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
    fields["id"] = {
        "anyOf": [{"type": "string"}, _NULL],
        "description": "The job id, where the AMQP property message_id is missing.",
    }
