"""Where everything of one local cloud stands: ports, paths, names. Written by the supervisor, read by each service."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CATALOG = Path(__file__).parent.parent / "functions" / "catalog.yaml"
PROJECT = "dev-context-local"
REGION = "europe-west1"
HOST = "127.0.0.1"
AGENTS = ("gateway", "tasks", "workflows", "scheduler", "alerts")  # accounts that call, and run nothing of ours
KEY = f"projects/{PROJECT}/locations/{REGION}/keyRings/main/cryptoKeys/fields"  # of Cloud KMS


def catalog() -> dict[str, dict[str, Any]]:
    """The Cloud Run services of functions/catalog.yaml by name."""
    return _section("services")


def workloads() -> dict[str, dict[str, Any]]:
    """What functions/catalog.yaml runs on GKE, by name."""
    return _section("workloads")


def logins() -> dict[str, dict[str, Any]]:
    """Whoever logs in to the database and reads secrets: Cloud Run services and workloads."""
    return catalog() | workloads()


def administrators() -> dict[str, str]:
    """Accounts of jobs that log in to the database: `admin` makes roles and schema, `owner` may become the owner."""
    jobs = _section("jobs").values()
    return {job["account"]: job["database"] for job in jobs if "database" in job}


def jobs() -> dict[str, dict[str, Any]]:
    """The Cloud Run jobs of functions/catalog.yaml by name."""
    return _section("jobs")


def replicas() -> dict[str, str]:
    """Process → workload, e.g. `sessions-1` → `sessions`; a process listens on the port of its name."""
    return {
        f"{name}-{number}": name
        for name, entry in workloads().items()
        for number in range(1, int(entry["min_replicas"]) + 1)
    }


def _section(name: str) -> dict[str, dict[str, Any]]:
    return {key: dict(entry) for key, entry in _parsed(CATALOG.read_text())[name].items()}


@cache
def _parsed(text: str) -> dict[str, dict[str, dict[str, Any]]]:
    """A supervisor asks for the catalog two hundred times, and reading its YAML takes 20 ms."""
    document: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(text)
    return document


@dataclass(frozen=True)
class Layout:
    """One stack. `ports` keys: gateway, postgres, valkey, tasks, secrets, workflows, storage, scheduler, smtp, mail,
    sms, cloudsql, logging, kms, compute, pubsub, monitoring, telemetry, per Cloud Run service or workload
    `metadata:<s>`, and per Cloud Run service `function:<s>` (the server) and `run:<s>` (its front, the part that a
    run.app address plays), and per replica of a workload its name; `door` is the loopback address whose port 3307 is
    the Cloud SQL door.
    """

    root: str
    ports: dict[str, int]
    door: str

    @classmethod
    def load(cls, path: str | Path) -> "Layout":
        """Read the file that `save` wrote."""
        return cls(**json.loads(Path(path).read_text()))

    def save(self) -> Path:
        """Write layout.json under the root and return its path."""
        path = self.path("layout.json")
        path.write_text(json.dumps(asdict(self), indent=1))
        return path

    def path(self, *parts: str) -> Path:
        """A path under the root (by default `.local` of the checkout)."""
        return Path(self.root, *parts)

    def url(self, name: str) -> str:
        """`http://127.0.0.1:port` of a service by its port name."""
        return f"http://{HOST}:{self.ports[name]}"

    def run_url(self, service: str) -> str:
        """The address of a Cloud Run service, which is also the audience of identity tokens for it."""
        return self.url(f"run:{service}")


def service_account(name: str) -> str:
    """The e-mail of the account of a service, workload, job or agent.

    Google wants at least six characters: `auth` alone is too short.
    """
    return f"dc-{name}@{PROJECT}.iam.gserviceaccount.com"


def login_role(service: str) -> str:
    """The database user of a service: Cloud SQL's name for an IAM service account drops `.gserviceaccount.com`."""
    return f"dc-{service}@{PROJECT}.iam"
