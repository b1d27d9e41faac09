"""How a job fails that the HTTP service failed at."""

from node.errors import Disposition, GenerationFailed


class ServiceFailed(GenerationFailed):
    """The service failed at a request, or took too long: another attempt may succeed.

    Not an `InternalError`: those make a node start anew that meets them in a row, and a caller
    could do that to it with requests that the service cannot digest.
    """

    disposition = Disposition.RETRY
