"""`python -m benchmarks.polling URL…`: ask again and again until stdin closes, then say how long.

A process of its own: in one that is busy with callers, every answer would seem late.
"""

import http.client
import json
import sys
import threading
import time
from typing import Final
from urllib.parse import urlsplit

PAUSE_SECONDS: Final = 0.01
TIMEOUT_SECONDS: Final = 30.0


def ask(url: str, ended: threading.Event) -> list[float]:
    """Ask one URL over one connection until the event; return how long each answer took."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_SECONDS)
    seconds = []
    while not ended.wait(PAUSE_SECONDS):
        started_at = time.perf_counter()
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - started_at)
        assert answer.status == http.client.OK, f"{url}: {answer.status}"
    connection.close()
    return seconds


def main() -> None:
    """Poll every URL in a thread of its own, and write the seconds as JSON."""
    ended = threading.Event()
    seconds: dict[str, list[float]] = {}

    def keep_asking(url: str) -> None:
        seconds[url] = ask(url, ended)

    threads = [threading.Thread(target=keep_asking, args=[url]) for url in sys.argv[1:]]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    json.dump(seconds, sys.stdout)


if __name__ == "__main__":
    main()
