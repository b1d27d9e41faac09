"""A picture that a request brings along."""

from typing import Annotated

from pydantic import Field

from contracts.text2image import GeneratedImage

Picture = Annotated[
    str | GeneratedImage,
    Field(
        description="A picture: the file in base64, or an image of another service's result.",
        examples=["iVBORw0KGgo="],
    ),
]
