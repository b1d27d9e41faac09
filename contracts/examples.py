"""One example of each message and its parts, as they look on the wire."""

from typing import Any, Final

JOB_ID: Final = "0f8fad5bd9cb469fa16570867728950e"
PROMPT: Final = "An astronaut riding a green horse"
MODEL_ID: Final = "stabilityai/sdxl-turbo"
SCHEDULER: Final = "EulerAncestralDiscreteScheduler"
TIME: Final = "2026-01-31T12:00:00.000Z"

OPEA_REQUEST: Final[dict[str, Any]] = {
    "id": None,
    "prompt": PROMPT,
    "num_inference_steps": 50,
    "guidance_scale": 7.5,
    "num_images_per_prompt": 1,
    "seed": 42,
    "negative_prompt": None,
    "height": None,
    "width": None,
    "lora_weight_name_or_path": None,
}
"""What clients of OPEA's text2image service send."""

IMAGE: Final[dict[str, Any]] = {
    "index": 0,
    "b64_json": "iVBORw0KGgo=",
    "uri": None,
    "media_type": "image/png",
    "width": 128,
    "height": 128,
    "seed": 1234,
    "sha256": "4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6",
    "nsfw": None,
}

PARAMETERS: Final[dict[str, Any]] = {
    "prompt": PROMPT,
    "model": MODEL_ID,
    "width": 128,
    "height": 128,
    "num_inference_steps": 25,
    "guidance_scale": 7.5,
    "seed": [1234],
    "scheduler": SCHEDULER,
}

NODE: Final[dict[str, Any]] = {
    "instance_id": "6f1c2a",
    "version": "0.1.0",
    "device": "cpu",
    "dtype": "float32",
}

TIMINGS: Final[dict[str, Any]] = {
    "queue_seconds": 0.01,
    "load_seconds": 0.0,
    "encode_seconds": 0.0,
    "denoise_seconds": 0.9,
    "decode_seconds": 0.1,
    "total_seconds": 1.1,
}

LIMITS: Final[dict[str, Any]] = {
    "min_pixels": 64,
    "max_pixels": 1024,
    "max_images": 4,
    "max_inference_steps": 100,
}

MODEL: Final[dict[str, Any]] = {
    "id": MODEL_ID,
    "family": "StableDiffusionXLPipeline",
    "warm": True,
    "default": True,
    "native_width": 512,
    "native_height": 512,
    "limits": LIMITS,
    "schedulers": [SCHEDULER],
    "loras": ["pixel-art"],
}

METADATA: Final[dict[str, Any]] = {
    "service_type": "TEXT2IMAGE",
    "state": "ready",
    "models": [MODEL],
    "device": "cuda",
    "device_reason": "first CUDA device",
    "dtype": "bfloat16",
    "memory_total_bytes": 85_899_345_920,
    "memory_free_bytes": 70_000_000_000,
    "slots_total": 1,
    "slots_busy": 0,
    "local_queue_depth": 0,
    "p50_seconds_per_image": 0.9,
    "http_port": 8081,
}

ENDPOINT: Final[dict[str, Any]] = {
    "name": "text2image",
    "subject": "text2image",
    "queue_group": "text2image",
}

STATS: Final[dict[str, Any]] = {
    **ENDPOINT,
    "num_requests": 12,
    "num_errors": 1,
    "last_error": "the device ran out of memory",
    "processing_time": 13.2,
    "average_processing_time": 1.1,
}

SERVICE: Final[dict[str, Any]] = {
    "name": "text2image",
    "id": "6f1c2a",
    "version": "0.1.0",
    "metadata": METADATA,
}

OFFER: Final[dict[str, Any]] = {
    "description": "Makes images from text with Diffusers",
    "endpoints": [ENDPOINT],
}

ORDER: Final[dict[str, Any]] = {"incarnation": 1_769_860_800_000, "seq": 7}
