"""The table of the services of a local stack: what runs, what it listens on, what has to stand before it."""

import importlib.util
import signal
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from local import stack
from local.layout import AGENTS, HOST, Layout, administrators, catalog, logins, replicas

CHECKOUT = Path(__file__).parent.parent
PORTS = (
    *("gateway", "status", "postgres", "valkey", "tasks", "secrets", "workflows", "storage"),
    *("scheduler", "smtp", "mail", "sms", "cloudsql", "logging", "kms", "compute", "pubsub", "monitoring", "telemetry"),
)
STAND_INS = {  # module of local/: the ports it listens on
    "status": ("status",),
    "valkey": ("valkey",),
    "metadata": (),
    "secrets": ("secrets",),
    "storage": ("storage",),
    "mail": ("smtp", "mail"),
    "sms": ("sms",),
    "cloudsql": ("cloudsql",),
    "logging": ("logging",),
    "kms": ("kms",),
    "telemetry": ("telemetry",),
    "alerts": ("compute", "pubsub", "monitoring"),
    "tasks": ("tasks",),
    "workflows": ("workflows",),
    "scheduler": ("scheduler",),
}
MODULES = {"secrets": "secrets_server", "logging": "logging_api"}  # pragma: allowlist secret
JOBS = ("exports-jobs", "deletions-jobs")
ALWAYS = ("auth", "retention")  # say that the gateway is well, and send what waits in the outbox
FUNCTION_NEEDS = ("migrations", "provision", "metadata", "secrets", "kms")


class Ready(Enum):
    """When a service counts as ready."""

    LISTENS = "its ports accept connections"
    ENDED = "it ran to its end with exit code 0"
    POSTGRES = "its postmaster.pid says so"
    HEALTHY = "its health answers 200"


@dataclass(frozen=True)
class Service:
    """One line of the table. `needs` names services, unknown ones do not count; `health` is for Ready.HEALTHY."""

    name: str
    command: tuple[str, ...]
    ports: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    ready: Ready = Ready.LISTENS
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = ""
    output: Path | None = None  # where the standard output goes once it ended well
    stop: signal.Signals = signal.SIGTERM
    last: bool = False  # stopped when everything else is
    required: bool = True  # a step that fails ends the stack
    forked: bool = False  # from the supervisor; the command is `python -m` of a module of local/


def port_names() -> list[str]:
    """Every key of Layout.ports."""
    services = list(catalog())
    names = [*PORTS, *replicas(), *(f"metadata:{name}" for name in (*logins(), *AGENTS, *administrators()))]
    return names + [f"{part}:{name}" for part in ("function", "run") for name in services]


def exists(module: str) -> bool:
    """Whether `python -m <module>` can be run."""
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.submodule_search_locations is None:
            return spec is not None
        return importlib.util.find_spec(f"{module}.__main__") is not None
    except ModuleNotFoundError:
        return False


def table(
    layout: Layout, environ: Mapping[str, str], *, fast: bool = False, only: Collection[str] = ()
) -> list[Service]:
    """All services of the stack whose code is there; they start as soon as what they need is ready.

    `only` names services and workloads of the catalog where not all of them are wanted: requests to others get a 503.
    """
    found = [_postgres(layout, environ, fast=fast), *_database_steps(layout, environ)]
    absent = () if _telemetry_here(layout, environ) else ("telemetry",)
    found += [_stand_in(layout, name, environ) for name in STAND_INS if name not in absent]
    wanted = {*only, *ALWAYS} if only else logins()
    functions = {name: entry for name, entry in catalog().items() if name in wanted and _is_built(entry["folder"])}
    found += [_function(layout, name, environ) for name in functions]
    found += [_replica(layout, name, load, environ) for name, load in replicas().items() if load in wanted]
    found += _gateway(layout, environ)
    found = [service for service in found if service.command[1] != "-m" or exists(service.command[2])]
    return [replace(each, forked=_is_ours(each)) for each in found]


def _is_ours(service: Service) -> bool:
    """Whether it stands for something of the cloud, and is not what runs there."""
    return service.command[1] == "-m" and service.command[2].startswith("local.")


def _is_built(folder: str) -> bool:
    return (CHECKOUT / "functions" / folder / "main.py").exists() and exists("common.server")


def _module(layout: Layout, module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--layout", str(layout.path("layout.json")))


def _stand_in(layout: Layout, name: str, environ: Mapping[str, str]) -> Service:
    command = _module(layout, f"local.{MODULES.get(name, name)}")
    ports = tuple(layout.ports[port] for port in STAND_INS[name])
    if name == "metadata":
        ports = tuple(number for port, number in layout.ports.items() if port.startswith("metadata:"))
    if name == "workflows":
        for service in JOBS:
            command += ("--env", f"{service.replace('-', '_').upper()}_URL={layout.run_url(service)}")
    if name == "alerts":
        command += ("--alerts", environ.get("ALERTS", "on"))
    needs = ("retention", "keys", "incidents") if name == "scheduler" else ()
    if name == "telemetry":
        command += ("--ratio", stack.trace_ratio(environ))
    last = name in ("valkey", "telemetry")  # replicas would complain of its loss while they end; what is left to tell
    return Service(name, command, ports, needs, environment=stack.inherited(environ), last=last)


def _postgres(layout: Layout, environ: Mapping[str, str], *, fast: bool) -> Service:
    command = _module(layout, "local.postgres") + (("--fast",) if fast else ())
    ports = (layout.ports["postgres"],)
    environment = stack.inherited(environ)
    return Service("postgres", command, ports, (), Ready.POSTGRES, environment, stop=signal.SIGINT, last=True)


def _database_steps(layout: Layout, environ: Mapping[str, str]) -> list[Service]:
    """The logins that Terraform makes; then the schema, and what the logins may do, by the migrating job's account."""
    environment = stack.job_environment(layout, "migrate", environ)
    migrate = (sys.executable, "-m", "migrations.apply")
    door = ("cloudsql", "metadata") if environment["DATABASE_URL"].startswith("cloudsql:") else ()
    needs = ("postgres", *door)
    return [
        Service("logins", _module(layout, "local.logins"), (), ("postgres",), Ready.ENDED, environment),
        Service("migrations", migrate, (), (*needs, "logins"), Ready.ENDED, environment),
        Service("provision", _module(layout, "local.provision"), (), (*needs, "migrations"), Ready.ENDED, environment),
    ]


def _function(layout: Layout, name: str, environ: Mapping[str, str]) -> Service:
    """Granian with the function, as the image starts it; as many processes as PROCESSES_<NAME> says."""
    port = layout.ports[f"function:{name}"]
    workers = environ.get(f"PROCESSES_{name.replace('-', '_').upper()}", "1")
    command = (
        *(sys.executable, "-m", "granian"),
        *("--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--no-ws", "--http", "1"),
        *("--workers", workers, "--blocking-threads", str(catalog()[name]["concurrency"])),
        *("--log-level", "error", "--workers-kill-timeout", "2"),
        *("--factory", "common.server:app"),
    )
    environment = stack.function_environment(layout, name, environ)
    return Service(name, command, (port,), FUNCTION_NEEDS, environment=environment)


def _replica(layout: Layout, name: str, workload: str, environ: Mapping[str, str]) -> Service:
    """One pod of a workload: ready when it says so. Its streams are ended within the second, as nothing else is."""
    port = layout.ports[name]
    environment = {"DRAIN_SECONDS": "1", **stack.function_environment(layout, workload, environ)}
    environment |= {"HOST": HOST, "PORT": str(port), "HOSTNAME": name}
    health = layout.url(name) + "/health/ready"
    command = (sys.executable, "-m", f"{workload}.server")
    return Service(name, command, (port,), FUNCTION_NEEDS, Ready.HEALTHY, environment, health)


def _telemetry_here(layout: Layout, environ: Mapping[str, str]) -> bool:
    return "telemetry" in layout.ports and stack.telemetry(layout, environ) == layout.url("telemetry")


def _gateway(layout: Layout, environ: Mapping[str, str]) -> list[Service]:
    """The gateway, which is ready when the functions behind it are, and the demo account made through it."""
    environment = stack.inherited(environ)
    health = layout.url("gateway") + "/health/ready"
    ports = (layout.ports["gateway"],)
    command = _module(layout, "local.gateway")
    command += ("--platform-checks-identity", environ.get("PLATFORM_CHECKS_IDENTITY", "false"))
    command += ("--edge", environ.get("EDGE", "gateway"))
    command += ("--traces",) if _telemetry_here(layout, environ) else ()
    gateway = Service("gateway", command, ports, (), Ready.HEALTHY, environment, health)
    demo = layout.path("demo.json")
    if demo.exists():
        return [gateway]
    seed = _module(layout, "local.seed_demo")
    return [gateway, Service("demo", seed, (), ("gateway",), Ready.ENDED, environment, output=demo, required=False)]
