"""An HTTP server that answers as the microservices of OPEA GenAIComps do."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256))


class OpeaServer:
    """Answers as OPEA's microservices do, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.probes: list[dict[str, str]] = []
        self.healthy = True
        self.failed = 0
        self.dropped = asyncio.Event()
        self.release = asyncio.Event()
        self.entered = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**26)
        application.add_routes(
            [
                web.get("/v1/health_check", self._health),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/older/chat", self._older_chat),
                web.post("/v1/audio/speech", self._speech),
                web.post("/v1/tts", self._tts),
                web.post("/v1/audio/transcriptions", self._transcription),
                web.post("/v1/embeddings", self._embedding),
                web.post("/hang", self._hang),
                web.post("/fails", self._fails),
                web.post("/plain", self._plain),
                web.post("/empty", self._empty),
                web.post("/status/{status}", self._status),
            ]
        )
        return application

    async def _noted(self, request: web.Request) -> Any:
        body = await request.json()
        given = {name: ", ".join(request.headers.getall(name)) for name in request.headers}
        self.requests.append((given, body))
        return body

    async def _health(self, request: web.Request) -> web.Response:
        self.probes.append(dict(request.headers))
        about = {"Service Title": "opea", "Service Description": "OPEA Microservice"}
        return web.json_response(about, status=200 if self.healthy else 503)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._noted(request)
        words = ["", "An ", "ani", "mal ", "🐴."]
        if not body.get("stream", True):  # OPEA streams unless told otherwise
            message = {"role": "assistant", "content": "".join(words)}
            answer = {"id": "c", "choices": [{"index": 0, "message": message}]}
            return web.json_response(answer)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for word in words:
            delta = {"choices": [{"index": 0, "delta": {"content": word}}]}
            await response.write(b"data: " + json.dumps(delta).encode() + b"\n\n")
        await response.write(b'data: {"choices": [], "usage": {"total_tokens": 7}}\n\n')
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _older_chat(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        horse = "a 🐴 isn't".encode()
        for part in (horse[:4], horse[4:]):
            await response.write(f"data: {part!r}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        await self._noted(request)
        response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
        await response.prepare(request)
        await response.write(WAV)
        return response

    async def _tts(self, request: web.Request) -> web.Response:
        await self._noted(request)
        return web.json_response({"tts_result": base64.b64encode(WAV).decode()})

    async def _transcription(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        text = f"{len(file.file.read())} bytes in {form['language']}"
        return web.json_response({"text": text, "extra": sorted(form)})

    async def _embedding(self, request: web.Request) -> web.Response:
        await self._noted(request)
        return web.json_response([0.25, -1.0])

    async def _fails(self, request: web.Request) -> web.Response:
        if (await request.json())["fail"]:
            self.failed += 1
            # What OPEA's microservices answer to whatever they did not expect.
            return web.Response(text="Internal Server Error", status=500)
        return web.json_response({})

    async def _plain(self, request: web.Request) -> web.Response:
        return web.Response(
            body="Grüße".encode("latin-1"),
            headers={"Content-Type": "text/plain; charset=iso-8859-1"},
        )

    async def _empty(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _hang(self, request: web.Request) -> web.Response:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.dropped.set()
            raise
        return web.json_response({})

    async def _status(self, request: web.Request) -> web.Response:
        status = int(request.match_info["status"])
        locations = {301: "http://[", 302: "../there?key=1"}
        elsewhere = {"Location": locations.get(status, "http://user:pw@elsewhere.example/x?key=1")}
        return web.json_response({"detail": "so it is"}, status=status, headers=elsewhere)


@asynccontextmanager
async def listening(application: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Serve inside the context, and say where; a free port unless one is given."""
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
