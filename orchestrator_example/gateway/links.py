"""Links to pictures that need no API key, for a while: what an <img> tag can show. Pure."""

import hashlib
import hmac
import secrets
import time
from typing import Final

from orchestrator_example.gateway.errors import LinkExpired

FILES_PATH: Final = "/v1/files"


class Links:
    """Signs links, and checks them. Without a secret, those of this process only."""

    def __init__(self, secret: str | None, seconds: float) -> None:
        self._secret = secret.encode() if secret else secrets.token_bytes(32)
        self._seconds = seconds

    def path(self, job_id: str, index: int) -> str:
        """Name the picture of a job, with a signature that lasts a while."""
        expires = int(time.time() + self._seconds)
        signature = self._signature(job_id, index, expires)
        return f"{FILES_PATH}/{job_id}/{index}?expires={expires}&signature={signature}"

    def check(self, job_id: str, index: int, expires: int, signature: str) -> None:
        """Raise LinkExpired unless a link was made here, and not long ago."""
        expected = self._signature(job_id, index, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise LinkExpired("the link is not one of this gateway; ask for the job again")
        if time.time() > expires:
            raise LinkExpired("the link worked for a while only; ask for the job again")

    def _signature(self, job_id: str, index: int, expires: int) -> str:
        text = f"{job_id}\0{index}\0{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()
