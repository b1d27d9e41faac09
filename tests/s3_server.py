"""An S3-compatible server in a process of its own: moto's, one request at a time.

moto looks whether an object is there and writes it then; S3 does both as one. The lock makes moto
do so, too. Two buckets have the manners of other servers.
"""

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

START_SECONDS = 60.0
BUCKET = "images"
CARELESS_BUCKET = "careless"
"""Knows no conditional writes: it overwrites, as servers did for years."""
TERSE_BUCKET = "terse"
"""Refuses a conditional write without saying which condition failed."""
CREDENTIALS = {"key": "test", "secret": "test-secret"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server inside the context; gives its endpoint, where the buckets are."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().decode().strip()
            assert endpoint, "the S3 server did not start"
            for bucket in (BUCKET, CARELESS_BUCKET, TERSE_BUCKET):
                _make(endpoint, bucket)
            yield endpoint
        finally:
            process.kill()


def environment(endpoint: str) -> dict[str, str]:
    """Tell another process where the server is, as an operator would."""
    given = {"endpoint_url": endpoint, **CREDENTIALS}
    return {**os.environ, **{f"FSSPEC_S3_{name.upper()}": value for name, value in given.items()}}


def _make(endpoint: str, bucket: str) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except urllib.error.URLError:
            assert time.monotonic() < give_up_at, "the S3 server does not answer"
            time.sleep(0.05)
        else:
            return


def _serve() -> None:
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server
    from werkzeug.wrappers import Response

    application = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        bucket = environ["PATH_INFO"].split("/")[1]
        if bucket == CARELESS_BUCKET:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with one_at_a_time:
            answer = Response.from_app(application, environ)
        if bucket == TERSE_BUCKET and answer.status_code == 412:
            answer.data = b"<Error><Code>PreconditionFailed</Code></Error>"
        return answer(environ, start_response)

    server = make_server("127.0.0.1", 0, serve, threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve()
