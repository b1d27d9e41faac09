"""A process that serves components from RabbitMQ."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("text2image-node")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+source"
