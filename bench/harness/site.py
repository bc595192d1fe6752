"""Where the peers work: their Python, their ports, their Valkey, and PostgreSQL as the stack has it: version, settings.

`site()` sets all of it up below bench/var, once.
"""

import hashlib
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from bench.harness import processes
from bench.harness.targets import Target, fill, hs256, identifier
from bench.machine import VAR
from local import postgres, valkey
from local.ports import is_free, reserve
from local.postgres_home import Owner, binary

PEERS = Path(__file__).parent.parent / "peers"
PASSWORD = "bench-only"  # pragma: allowlist secret
USER_PASSWORD = "correct horse battery staple"  # pragma: allowlist secret
JWT_SECRET = "bench-hs256-secret-0123456789abcdef-0123456789abcdef"  # pragma: allowlist secret
ARGON2: dict[str, Any] = {"memory_cost": 19_456, "time_cost": 2, "parallelism": 1}
EVENTS = 20  # of each user; of the one heavy subject: Shape.subject_events
DAY = 86_400


@dataclass(frozen=True)
class Shape:
    """What a database holds. `subject_events` are those of user1."""

    tenants: int
    projects: int
    subject_events: int = EVENTS

    @property
    def name(self) -> str:
        """As in results: `1000x200`."""
        return f"{self.tenants}x{self.projects}"


@dataclass
class Site:
    """The peers' place."""

    folder: Path
    port: int
    ports: list[int]
    log: Path
    server: "subprocess.Popen[bytes]"

    @property
    def python(self) -> Path:
        """The interpreter of the peers."""
        return environment_folder(self.folder) / "bin" / "python"

    def env(self, database: str, user: str = "app") -> dict[str, str]:
        """What a peer's process finds in its environment."""
        password = PASSWORD if user == "app" else postgres.admin_password(self.folder / "postgres")
        path = os.pathsep.join((str(self.python.parent), str(self.bin), os.environ["PATH"]))
        known = {"PATH": path, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGDATABASE": database}
        known |= {"PGUSER": user, "PGPASSWORD": password, "JWT_SECRET": JWT_SECRET}
        # Processes are long-lived in production: byte code is cached there too.
        return os.environ | known | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONUNBUFFERED": "1"}

    @property
    def bin(self) -> Path:
        """The folder of PostgreSQL's programs."""
        return Path(binary(self.folder / "postgres", Owner.choose(), "psql")).parent

    def psql(self, database: str, *words: str) -> str:
        """What psql prints, as the superuser."""
        command = [str(self.bin / "psql"), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", *words]
        env = self.env(database, postgres.SUPERUSER)
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    def database(self, shape: Shape) -> str:
        """A new database with these contents; its name."""
        seed = f"seed_{shape.name}_{shape.subject_events}"
        if not self.psql("postgres", "-c", f"SELECT 1 FROM pg_database WHERE datname = '{seed}'"):  # noqa: S608 - our own name
            self._seed(seed, shape)
        name = seed.replace("seed", "bench")
        self.psql("postgres", "-c", f"DROP DATABASE IF EXISTS {name} (FORCE)")
        self.psql("postgres", "-c", f"CREATE DATABASE {name} TEMPLATE {seed} STRATEGY file_copy", "-c", "CHECKPOINT")
        return name

    def _seed(self, name: str, shape: Shape) -> None:
        fresh = f"{name}_new"
        self.psql("postgres", "-c", f"DROP DATABASE IF EXISTS {fresh}", "-c", f"CREATE DATABASE {fresh}")
        self.psql(fresh, "-f", str(PEERS / "database" / "schema.sql"))
        # Django's encoding, with a salt as long as Django's own (a shorter one is hashed anew at log-in).
        hashed = "argon2" + PasswordHasher(**ARGON2).hash(USER_PASSWORD, salt=b"BenchmarkSalt012345678")
        known: dict[str, Any] = {"tenants": shape.tenants, "projects": shape.projects, "events": EVENTS}
        known |= {"subject_events": shape.subject_events, "password": hashed}
        given = [word for key, value in known.items() for word in ("-v", f"{key}={value}")]
        self.psql(fresh, *given, "-f", str(PEERS / "database" / "seed.sql"))
        # Tables of simplejwt for refresh tokens that were used.
        migrate = [str(self.python), "manage.py", "migrate", "-v", "0"]
        env = self.env(fresh, postgres.SUPERUSER)
        subprocess.run(migrate, check=True, cwd=PEERS / "django_drf", env=env, stdout=subprocess.DEVNULL)
        self.psql("postgres", "-c", f"ALTER DATABASE {fresh} RENAME TO {name}")

    def target(self, file: str, database: str, **env: str) -> Target:
        """A peer of bench/peers/targets, such as `django_drf`, `realtime/aiohttp_sse`."""
        path = PEERS / "targets" / f"{file}.toml"
        spec = fill(tomllib.loads(path.read_text()), {"port": self.take_port()})
        known = self.env(database) | spec.get("env", {}) | env
        log = self.log / f"{path.stem}.log"
        found = Target(path.stem, spec, spec["command"], (path.parent / spec["cwd"]).resolve(), known, log)
        found.postgres = self.server.pid
        if claims := found.get("auth", "hs256", "claims"):
            found.mint = lambda number, role: minted(number, role, claims)
        return found

    def take_port(self) -> int:
        """A free port that nobody else chooses."""
        while not is_free(port := self.ports.pop(0)):
            self.ports.append(port)
        self.ports.append(port)
        return port


def minted(number: int, role: str, claims: dict[str, str]) -> tuple[str, str]:
    """(tenant, token) of one tenant's member or viewer."""
    user = identifier(f"{'viewer' if role == 'viewer' else 'user'}{number}")
    tenant, now = identifier(f"tenant{number}"), int(time.time())
    known = {"tenant_id": tenant, "user_id": user, "role": role, "jti": os.urandom(16).hex()}
    return tenant, hs256(fill(claims, known) | {"iat": now, "exp": now + DAY}, JWT_SECRET)


def environment_folder(folder: Path, name: str = "requirements") -> Path:
    """The virtual environment of a list of packages: another list, another one."""
    text = (PEERS / f"{name}.txt").read_bytes() + sys.version.encode()
    return folder / f"{name}-{hashlib.sha256(text).hexdigest()[:12]}"


def install(folder: Path, name: str = "requirements") -> Path:
    """That environment, made when it is not there. Raises CalledProcessError when its packages cannot be had."""
    there = environment_folder(folder, name)
    if not (there / ".installed").exists():
        print(f"Installing the packages of bench/peers/{name}.txt into {there}.", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(there)], check=True)
        pip = [str(there / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(PEERS / f"{name}.txt")], check=True)
        (there / ".installed").touch()
    return there


@contextmanager
def site(folder: Path = VAR / "peers") -> Iterator[Site]:
    """Set up, with PostgreSQL running; its data stays for the next time."""
    folder.mkdir(parents=True, exist_ok=True)
    install(folder)
    block, mark = reserve()
    port, *ports = block
    with mark, (folder / "postgres.log").open("wb") as log:
        server = postgres.start(folder / "postgres", port, log=log)
        found = Site(folder, port, ports, folder / "log", server)
        try:
            if not found.psql("postgres", "-c", "SELECT 1 FROM pg_roles WHERE rolname = 'app'"):
                made = f"CREATE ROLE app LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '{PASSWORD}'"
                found.psql("postgres", "-c", made)
            yield found
        finally:
            postgres.stop(server)


@contextmanager
def cache(found: Site) -> Iterator[tuple[int, int]]:
    """A Valkey for the peers that need one: its pid and its port."""
    port = found.take_port()
    command = [valkey.binary(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = processes.spawn(command, found.folder, os.environ, found.log / "valkey.log")
    try:
        deadline = time.monotonic() + 20
        while is_free(port) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield process.pid, port
    finally:
        processes.stop(process)
