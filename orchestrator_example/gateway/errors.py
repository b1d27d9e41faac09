"""What the gateway itself refuses; what services refuse comes as their result."""

from http import HTTPStatus

from node.errors import NodeError


class GatewayError(NodeError):
    """A refusal, as HTTP tells it. The text says what happened and what to do about it."""

    status: int
    code: str
    title: str
    retry_after_seconds: float | None = None
    """When asking again may help; None: not by waiting."""


class NotRouted(GatewayError):
    """What the router found: no such path, no such method."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = HTTPStatus(status).phrase
        self.code = self.title.lower().replace(" ", "_")


class BadRequest(GatewayError):
    status, code, title = 400, "bad_request", "The request cannot be read"


class Unauthorized(GatewayError):
    status, code, title = 401, "unauthorized", "An API key is needed"


class LinkExpired(GatewayError):
    status, code, title = 403, "link_expired", "The link does not work"


class JobUnknown(GatewayError):
    status, code, title = 404, "job_unknown", "There is no such job"


class ServiceUnknown(GatewayError):
    status, code, title = 404, "service_unknown", "There is no such service"


class BodyTooSlow(GatewayError):
    status, code, title = 408, "body_too_slow", "The request took too long to arrive"


class BodyTooLarge(GatewayError):
    status, code, title = 413, "body_too_large", "The request is too large"


class TooManyRequests(GatewayError):
    """The caller asks for more than it may."""

    status, code, title = 429, "too_many_requests", "Too many requests"

    def __init__(self, detail: str, retry_after_seconds: float) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Crashed(GatewayError):
    status, code, title = 500, "internal", "The gateway failed"


class Busy(GatewayError):
    """The gateway holds as many jobs as it may, or nobody is there to do this one."""

    status, code, title = 503, "busy", "The service cannot take this now"

    def __init__(self, detail: str, retry_after_seconds: float) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds
