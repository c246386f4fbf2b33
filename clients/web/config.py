"""What can be set about the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True)
class Config:
    """Where the models are, and the limits of a request.

    server          address of the model server, grpc://host:port or http://host:port
    repository      folder of the models that the server serves: names, cards and samples come from it
    models          names of the models, when there is no repository
    timeout_s       seconds that the model server has for an answer
    max_body_bytes  largest body of a request
    max_pixels      pixels of all images of a request together
    max_side        images to be segmented are reduced to this many pixels on their longer side
    max_images      most images of one request, sent or generated
    max_characters  longest text
    """

    server: str = "grpc://localhost:8500"
    repository: Path | None = None
    models: tuple[str, ...] = ()
    timeout_s: float = 20.0
    max_body_bytes: int = 16 * MIB
    max_pixels: int = 16_000_000
    max_side: int = 1024
    max_images: int = 64
    max_characters: int = 20_000
