"""Objects that nodes share, in memory and on virtual time."""

from node.errors import StoreUnavailable
from tests.fakes import Fault, Inject, nothing_goes_wrong


class InMemoryObjects:
    """Stands in for `node.stores.objects.Objects`: what it holds is shared, the link is one's own.

    Each call takes effect at once and as a whole, between two awaits.
    """

    label = url = "shared"

    def __init__(self, held: dict[str, bytes], inject: Inject = nothing_goes_wrong) -> None:
        self._held = held
        self._inject = inject

    async def read(self, name: str) -> bytes | None:
        await self._asked(Fault.STORE_AWAY)
        found = self._held.get(name)
        await self._inject()
        return found

    async def names(self, folder: str) -> list[str]:
        await self._asked(Fault.STORE_AWAY)
        prefix = f"{folder}/"
        found = [name.removeprefix(prefix) for name in self._held if name.startswith(prefix)]
        await self._inject()
        return found

    async def write(self, name: str, data: bytes) -> None:
        fault = await self._asked(Fault.STORE_AWAY, Fault.STORE_ANSWER_LOST)
        self._held[name] = data
        await self._answered(fault)

    async def create(self, name: str, data: bytes) -> bool:
        fault = await self._asked(Fault.STORE_AWAY, Fault.STORE_ANSWER_LOST)
        is_new = name not in self._held
        self._held.setdefault(name, data)
        await self._answered(fault)
        return is_new

    async def _asked(self, *possible: Fault) -> Fault | None:
        fault = await self._inject(*possible)
        if fault is Fault.STORE_AWAY:
            raise StoreUnavailable("injected: the store does not answer")
        return fault

    async def _answered(self, fault: Fault | None) -> None:
        await self._inject()
        if fault is Fault.STORE_ANSWER_LOST:
            raise StoreUnavailable("injected: the answer of the store did not come")
