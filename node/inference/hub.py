"""Files from a model hub: only safetensors, a pinned revision, progress, one clear line on failure.

Blocking; runs in a thread that is not the inference thread. Knows no torch.
"""

import errno
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, scan_cache_dir, snapshot_download
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from contracts.discovery import LoadState
from node.component import ReportLoad
from node.errors import SetupError
from node.inference.checkpoint import variant_of
from node.inference.offers import LoraSpec, ModelSpec

REPORT_INTERVAL_SECONDS: Final = 0.5
# A Diffusers model keeps its weights in folders; a single file in the root is the same once more.
MODEL_FILES: Final = ("*.json", "*.txt", "*.model", "*/*.safetensors")
DIFFUSERS_INDEX: Final = "model_index.json"
# A transformers model keeps its weights in the root.
TRANSFORMERS_FILES: Final = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
VARIANT_FILES: Final = ("*.fp16.*", "*.fp16-*", "*.bf16.*", "*.non_ema.*", "*.ema.*")
LORA_FILES: Final = ("*.safetensors",)


@dataclass(frozen=True, slots=True)
class Hub:
    """How to reach the hub; None is Hugging Face's own: its cache, and HF_ENDPOINT."""

    token: str | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    offline: bool = False
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model that is on this machine."""

    id: str
    revisions: tuple[str, ...]
    size_bytes: int


def fetch_model(
    spec: ModelSpec, hub: Hub, report: ReportLoad, files: tuple[str, ...] = MODEL_FILES
) -> Path:
    """Bring a model to this machine and return its folder. Raises SetupError."""
    if spec.is_local:
        return Path(spec.source)
    return _fetch(spec.name, spec.source, spec.revision, files, hub, report)


def files_of(spec: ModelSpec, hub: Hub) -> tuple[str, ...]:
    """Choose the files of a model by its kind; of one that the hub does not list, Diffusers'."""
    names = () if spec.is_local or hub.offline else _names(spec.source, spec.revision, hub)
    return MODEL_FILES if not names or DIFFUSERS_INDEX in names else TRANSFORMERS_FILES


def fetch_lora(spec: LoraSpec, hub: Hub, report: ReportLoad) -> Path:
    """Bring a LoRA to this machine and return its safetensors file. Raises SetupError."""
    if spec.is_local:
        found = Path(spec.source)
    else:
        patterns = (spec.weight_name,) if spec.weight_name else LORA_FILES
        found = _fetch(spec.name, spec.source, spec.revision, patterns, hub, report)
    if found.is_dir():
        files = sorted(found.glob(spec.weight_name or "*.safetensors"))
        if len(files) != 1:
            raise SetupError(
                f"LoRA {spec.name!r}: {found} has {len(files)} safetensors files to choose from; "
                "name one as name=source:file.safetensors"
            )
        found = files[0]
    if found.suffix != ".safetensors" or not found.is_file():
        raise SetupError(f"LoRA {spec.name!r}: {found} is not a safetensors file")
    return found


def cached_models(hub: Hub) -> list[CachedModel]:
    """List the models in the cache, by id."""
    try:
        cache = scan_cache_dir(hub.cache_dir)
    except CacheNotFound:
        return []
    return [
        CachedModel(
            repo.repo_id,
            tuple(sorted(revision.commit_hash for revision in repo.revisions)),
            repo.size_on_disk,
        )
        for repo in sorted(cache.repos, key=lambda repo: str(repo.repo_id))
        if repo.repo_type == "model"
    ]


def unwanted_variants(names: Iterable[str]) -> tuple[str, ...]:
    """Choose what to leave out: variants of weights (fp16), where the plain ones are there."""
    weights = [name for name in names if name.endswith(".safetensors") and "/" in name]
    plain = {name.partition("/")[0] for name in weights if variant_of(name) is None}
    folders = {name.partition("/")[0] for name in weights}
    return VARIANT_FILES if plain == folders else ()


def _fetch(
    name: str,
    source: str,
    revision: str | None,
    patterns: tuple[str, ...],
    hub: Hub,
    report: ReportLoad,
) -> Path:
    progress = _Progress(name, report)
    common: dict[str, Any] = {
        "repo_id": source,
        "revision": revision,
        "cache_dir": hub.cache_dir,
        "allow_patterns": list(patterns),
    }
    try:
        ignored = VARIANT_FILES if hub.offline else _ignored(source, revision, hub)
        folder = snapshot_download(
            **common,
            ignore_patterns=list(ignored),
            token=hub.token,
            local_files_only=hub.offline,
            tqdm_class=progress.bar_class(),
            max_workers=4,
            endpoint=hub.endpoint,
        )
    except (HTTPError, OSError, HFValidationError) as error:
        raise SetupError(explain(error, source, revision, hub)) from error
    progress.finish()
    return Path(folder)


def _ignored(source: str, revision: str | None, hub: Hub) -> tuple[str, ...]:
    # Of a model that cannot be listed now the cache may still have a plain one.
    return unwanted_variants(_names(source, revision, hub))


def _names(source: str, revision: str | None, hub: Hub) -> tuple[str, ...]:
    """List the files of a model; none where that fails: snapshot_download meets the same error."""
    try:
        info = HfApi(hub.endpoint, hub.token).model_info(source, revision=revision)
    except (HTTPError, OSError, HFValidationError):
        return ()
    return tuple(file.rfilename for file in info.siblings or [])


def explain(error: Exception, source: str, revision: str | None, hub: Hub) -> str:
    """Say in one line what a person must do about a failed download."""
    url = f"{hub.endpoint or ENDPOINT}/{source}"
    if isinstance(error, GatedRepoError):
        return f"model {source} is gated: accept its licence at {url} and set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"model {source} has no revision {revision!r}: see {url}/commits"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no model {source} on the hub, or it is private: check the spelling at {url}"
            f"{'' if hub.token else ', and set HF_TOKEN if it is private'}"
        )
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return f"the hub refused the token for {source}: set HF_TOKEN to a valid one"
    if isinstance(error, LocalEntryNotFoundError) and hub.offline:
        return (
            f"model {source} is not complete on this machine and NODE_OFFLINE is set: fetch it "
            f"once with `text2image-node models fetch {source}` while online"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left for model {source}: free some, or set NODE_CACHE_DIR to another disk"
    if isinstance(error, PermissionError):
        return f"the model cache may not be written ({error.filename}): set NODE_CACHE_DIR"
    if isinstance(error, HFValidationError):
        return f"{source!r} is not a hub id: one looks like stabilityai/sdxl-turbo"
    # The transport quotes a header that it cannot send: the token with a line break in it.
    secret = (hub.token or "").strip()
    text = str(error).replace(secret, "[HF_TOKEN]") if secret else str(error)
    reason = " ".join(text.split())[:200]
    return f"the hub cannot be reached for {source}: check the network, or HF_ENDPOINT ({reason})"


class _Progress:
    """Adds up the bars of one download; its lock guards them: files come in several threads."""

    def __init__(self, model: str, report: ReportLoad) -> None:
        self._model = model
        self._report = report
        self._bars: list[Any] = []
        self._lock = threading.Lock()
        self._reported_at = 0.0

    def bar_class(self) -> type[Any]:
        """Make the class of progress bars to give to huggingface_hub."""
        progress = self

        class Bar(tqdm):  # type: ignore[misc]
            """Shows nothing, counts, and tells the progress."""

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "disable": True})
                self.counts_bytes = options.get("unit") == "B"
                progress.add(self)

            def __iter__(self) -> Iterator[Any]:
                # One that is disabled does not count, and huggingface_hub 1.0 iterates over files.
                for item in self.iterable:
                    yield item
                    self.update(1)

            def update(self, n: float | None = 1) -> None:
                progress.count(self, n or 0)

            def refresh(self, *_: Any, **__: Any) -> None:
                progress.count(self, 0)

        return Bar

    def add(self, bar: Any) -> None:
        """Know one more bar."""
        with self._lock:
            self._bars.append(bar)

    def count(self, bar: Any, n: float) -> None:
        """Advance a bar; report, though not too often."""
        with self._lock:
            bar.n += n
            now = time.monotonic()
            if now - self._reported_at < REPORT_INTERVAL_SECONDS:
                return
            self._reported_at = now
            state = self._state()
        self._report(state)

    def finish(self) -> None:
        """Report the end."""
        with self._lock:
            state = self._state()
        self._report(state)

    def _state(self) -> LoadState:
        # There are two bars of bytes, as received and as written: the fuller one counts.
        sized = [bar for bar in self._bars if bar.counts_bytes]
        files = [bar for bar in self._bars if not bar.counts_bytes]
        return LoadState(
            stage="downloading",
            model=self._model,
            files_done=int(sum(bar.n for bar in files)),
            files_total=int(sum(bar.total or 0 for bar in files)) or None,
            bytes_done=int(max((bar.n for bar in sized), default=0)),
            bytes_total=int(max((bar.total or 0 for bar in sized), default=0)) or None,
        )
