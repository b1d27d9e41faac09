"""The generation data inside an image file: how the picture came about.

Nothing in it depends on the node, the time or the other images of the request, so that the same
request and seed give the same bytes everywhere.
"""

import json
from typing import Any, Final
from xml.sax.saxutils import escape

from contracts.text2image import EffectiveParameters

XMP_MAX_BYTES: Final = 65_502
"""What fits into one JPEG segment behind the XMP marker."""

_FIELDS: Final = (
    "prompt",
    "negative_prompt",
    "model",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "scheduler",
    "loras",
    "strength",
    "image_sha256",
)
_NAMESPACE: Final = "urn:text2image-node:generation:"


def generation_json(parameters: EffectiveParameters, revision: str | None, seed: int) -> str:
    """Write what a request must say to get this picture again, as ASCII JSON."""
    data: dict[str, Any] = parameters.model_dump(mode="json", include=set(_FIELDS))
    ordered = {name: data[name] for name in _FIELDS if data.get(name) not in (None, [])}
    return json.dumps({**ordered, "revision": revision, "seed": seed})


def generation_text(parameters: EffectiveParameters, seed: int) -> str:
    """Write the same for people, in the style of AUTOMATIC1111 that galleries can read."""
    lines = [parameters.prompt]
    if parameters.negative_prompt:
        lines.append(f"Negative prompt: {parameters.negative_prompt}")
    facts = {
        "Steps": parameters.num_inference_steps,
        "Sampler": parameters.scheduler,
        "CFG scale": parameters.guidance_scale,
        "Denoising strength": getattr(parameters, "strength", None),
        "Seed": seed,
        "Size": f"{parameters.width}x{parameters.height}",
        "Model": parameters.model,
        "LoRAs": " ".join(f"{lora.name}:{lora.scale:g}" for lora in parameters.loras) or None,
    }
    lines.append(
        ", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None)
    )
    return "\n".join(lines)


def xmp_packet(text: str, data: str) -> bytes:
    """Write an XMP packet with both forms; with fewer where they would not fit into a JPEG."""
    for fields in ({"parameters": text, "json": data}, {"json": data}, {}):
        packet = _packet(fields)
        if len(packet) <= XMP_MAX_BYTES:
            break
    return packet


def _packet(fields: dict[str, str]) -> bytes:
    elements = "".join(f"<g:{name}>{_xml(value)}</g:{name}>" for name, value in fields.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:g="{_NAMESPACE}">{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def _xml(text: str) -> str:
    """Escape text, without the control characters that XML 1.0 has no spelling for."""
    return escape(
        "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff"))
    )
