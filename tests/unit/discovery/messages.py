"""What instances say, ready made."""

from typing import Any

from contracts.discovery import Announcement, Goodbye, NodeState, PingReply, ServiceMetadata

ABOUT = ServiceMetadata(service_type="TEXT2IMAGE", state=NodeState.READY)


def announcement(instance: str = "one", incarnation: int = 1, seq: int = 1, **given: Any) -> Any:
    return Announcement(
        **{
            "name": "text2image",
            "id": instance,
            "version": "1",
            "metadata": ABOUT,
            "description": "Images",
            "endpoints": [],
            "incarnation": incarnation,
            "seq": seq,
            "ttl_seconds": 15.0,
        }
        | given
    )


def ping_reply(
    instance: str = "one", incarnation: int = 1, seq: int = 1, name: str = "text2image"
) -> PingReply:
    return PingReply(
        name=name,
        id=instance,
        version="1",
        metadata=ABOUT,
        incarnation=incarnation,
        seq=seq,
    )


def goodbye(
    instance: str = "one", incarnation: int = 1, seq: int = 2, name: str = "text2image"
) -> Goodbye:
    return Goodbye(name=name, id=instance, incarnation=incarnation, seq=seq, reason="draining")
