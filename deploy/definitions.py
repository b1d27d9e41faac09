"""What the broker of the compose demo begins with: a user for each service, exchanges and queues.

    python -m deploy.definitions                     # what .env and the environment say
    python -m deploy.definitions --new-passwords     # with new passwords, kept in .env

Passwords (TEXT2IMAGE_PASSWORD and so on) and models (NODE_MODEL, NODE_MODELS) are read where
compose reads them for the services. Each user may do what its role needs
(`node.commands.permissions`) and no more; there is no `guest`.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values

from contracts.topology import definitions, service_topology
from node.commands.common import read_settings
from node.commands.permissions import Permissions, Role
from node.component import ComponentLoader, ComponentRegistry
from node.errors import SetupError

FILE: Final = Path(__file__).parent / "compose" / "definitions.json"
ENV_FILE: Final = Path(".env")
VHOST: Final = "/"
PICTURES: Final = ("text2image", "image2image")
"""Services whose models have queues of their own."""
SERVICES: Final = (*PICTURES, "prompt-writer", "guardrail", "captioner")
MEGASERVICES: Final = ("painter", "checked-painter", "best-of", "repainter")
ROLES: Final = {
    **{service: Role(serves=[service]) for service in SERVICES},
    "gateway": Role(serves=MEGASERVICES, calls=[*SERVICES, *MEGASERVICES]),
}
ADMIN: Final = "admin"
"""For people: the management pages, and `text2image-node topology apply`."""
USERS: Final = (*ROLES, ADMIN)
_FIT_FOR_A_URL: Final = re.compile(r"[A-Za-z0-9._~-]+")


def password_variable(user: str) -> str:
    """Name the environment variable of a password."""
    return f"{user.upper().replace('-', '_')}_PASSWORD"


def passwords(environ: Mapping[str, str]) -> dict[str, str]:
    """Read every user's password; unset, it is the one that everybody knows. Raises ValueError."""
    given = {user: environ.get(password_variable(user)) or f"demo-{user}" for user in USERS}
    for user, password in given.items():
        if not _FIT_FOR_A_URL.fullmatch(password):
            raise ValueError(f"{password_variable(user)}: use letters, digits and . _ ~ - only")
    return given


def password_hash(user: str, password: str) -> str:
    """Hash a password as RabbitMQ does: base64 of a salt and SHA-256 of salt and password."""
    # Of the password itself, so that the same passwords make the same file.
    salt = hashlib.sha256(f"{user}\0{password}".encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def make_definitions(secret: Mapping[str, str], models: Sequence[str]) -> dict[str, Any]:
    """Write everything as RabbitMQ definitions."""
    entities: dict[str, list[Any]] = {}
    for service in (*SERVICES, *MEGASERVICES):
        topology = service_topology(service, models if service in PICTURES else ())
        for kind, added in definitions(topology, VHOST).items():
            known = entities.setdefault(kind, [])
            known += [each for each in added if each not in known]
    return {
        "users": [_user(user, secret[user]) for user in USERS],
        "permissions": [
            *(_permissions(user, role.permissions()) for user, role in ROLES.items()),
            _permissions(ADMIN, Permissions(".*", ".*", ".*")),
        ],
        "topic_permissions": [
            {
                "user": user,
                "vhost": VHOST,
                "exchange": each.exchange,
                "write": each.write,
                "read": each.read,
            }
            for user, role in ROLES.items()
            for each in role.topic_permissions()
        ],
        **entities,
    }


def _user(name: str, password: str) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": password_hash(name, password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ["administrator"] if name == ADMIN else [],
    }


def _permissions(user: str, may: Permissions) -> dict[str, str]:
    return {
        "user": user,
        "vhost": VHOST,
        "configure": may.configure,
        "write": may.write,
        "read": may.read,
    }


def offered_models(environ: Mapping[str, str]) -> list[str]:
    """Name the models that nodes in this environment offer. Raises SetupError."""
    named = {name: environ.get(f"NODE_{name.upper()}") or None for name in ("model", "models")}
    settings = read_settings(**named)
    component = ComponentLoader(ComponentRegistry(), settings).build(PICTURES[0])
    return [model.id for model in component.models()]


def to_json(document: Mapping[str, Any]) -> str:
    """Write definitions as they stand in the file."""
    return json.dumps(document, indent=2) + "\n"


def keep_new_passwords(file: Path) -> None:
    """Replace every password in a file of NAME=value, which only its owner may read.

    Raises OSError.
    """
    made = {password_variable(user): secrets.token_urlsafe(18) for user in USERS}
    file.touch(mode=0o600)
    lines = [line for line in file.read_text().splitlines() if line.split("=")[0] not in made]
    lines += [f"{name}={password}" for name, password in made.items()]
    file.write_text("\n".join(lines) + "\n")


def known_to_compose(file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Read what compose replaces variables with: the environment, then the file."""
    kept = {name: value for name, value in dotenv_values(file).items() if value is not None}
    return {**kept, **environ}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.definitions",
        description="Write the definitions of the compose demo's broker.",
    )
    parser.add_argument("--new-passwords", action="store_true", help=f"keep them in {ENV_FILE}")
    parser.add_argument("--out", type=Path, default=FILE, help="the file to write")
    given = parser.parse_args(arguments)
    try:
        if given.new_passwords:
            keep_new_passwords(ENV_FILE)
        environ = known_to_compose(ENV_FILE, os.environ)
        document = make_definitions(passwords(environ), offered_models(environ))
        given.out.write_text(to_json(document))
    except (OSError, ValueError, SetupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
