"""What the manifests must keep to, one rule each: a function that says what is wrong. `RULES` names them all."""

import re
from collections.abc import Callable, Iterator

import kubernetes_validate
from kubernetes_validate.utils import SchemaNotFoundError

from tests.infra import custom
from tests.infra.cluster import NAMESPACE, Cluster, Object, mappings

Rule = Callable[[Cluster], Iterator[str]]
RULES: dict[str, Rule] = {}
OLDEST, NEWEST = "1.34", "1.37"  # the versions of Kubernetes whose schemas the manifests are checked against
OPERATOR = "external-secrets.io/"
NOBODY = 65534
KINDS = {
    "ConfigMap",
    "Deployment",
    "ExternalSecret",
    "HorizontalPodAutoscaler",
    "Namespace",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "SecretStore",
    "Service",
    "ServiceAccount",
}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
DIGEST = re.compile(r"europe-west1-docker\.pkg\.dev/[a-z0-9-]+/dev-context/dev-context@sha256:[0-9a-f]{64}")
SEED = {"requests": {"memory": "512Mi", "cpu": "500m"}, "limits": {"memory": "1Gi", "cpu": "1000m"}}


def rule(check: Rule) -> Rule:
    """Enter a function into the rules."""
    RULES[check.__name__] = check
    return check


def broken(cluster: Cluster, *names: str) -> dict[str, list[str]]:
    """What is wrong, by the rule's name; only of the rules that are named, or of all."""
    found = {name: list(RULES[name](cluster)) for name in names or RULES}
    return {name: faults for name, faults in found.items() if faults}


def schema_faults(given: Object) -> Iterator[str]:
    """What the schemas say of one object."""
    if given["apiVersion"].startswith(OPERATOR):
        yield from custom.faults(given)
        return
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(given, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{version}: {'.'.join(map(str, error.absolute_path))}: {error.message}"
        except SchemaNotFoundError as error:
            yield error.message


@rule
def schemas(cluster: Cluster) -> Iterator[str]:
    """Kubernetes' own schemas, closed: a misspelt field is an error here, and would be silence there."""
    for each in cluster.objects:
        yield from schema_faults(each)


@rule
def kinds(cluster: Cluster) -> Iterator[str]:
    """No object but the ones that we know: no Secret with its text, no second way in."""
    yield from sorted({each["kind"] for each in cluster.objects} - KINDS)
    names = [(each["kind"], each["metadata"]["name"]) for each in cluster.objects]
    yield from sorted(f"{name} stands twice" for name in set(names) if names.count(name) > 1)


@rule
def release(cluster: Cluster) -> Iterator[str]:
    """The account of releases moves the one Deployment, and nobody else may do anything."""
    roles = [each for each in cluster.objects if each["kind"] in ("Role", "RoleBinding")]
    if [(each["kind"], each["metadata"]["name"]) for each in roles] != [
        ("Role", "release"),
        ("RoleBinding", "release"),
    ]:
        yield "another role, or none"
        return
    role, binding = roles
    deployment = {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["sessions"]}
    if role["rules"] != [deployment | {"verbs": ["get", "patch"]}]:
        yield "the role allows something else than the Deployment's image"
    project = cluster.settings["PROJECT_ID"]
    named = [(each["kind"], each["name"]) for each in binding["subjects"]]
    if named != [("User", f"dc-release@{project}.iam.gserviceaccount.com")]:
        yield f"bound to {named}"
    if (binding["roleRef"]["kind"], binding["roleRef"]["name"]) != ("Role", "release"):
        yield "binds another role"


@rule
def namespace(cluster: Cluster) -> Iterator[str]:
    """Everything stands in our namespace, where the API server enforces the restricted standard."""
    for each in cluster.objects:
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != NAMESPACE:
            yield f"{each['kind']} {each['metadata']['name']} is elsewhere"
    labels = cluster.one("Namespace", NAMESPACE)["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"{mode} is not restricted"
    if labels.get("pod-security.kubernetes.io/enforce-version") != f"v{OLDEST}":
        yield "what is enforced has no version"


@rule
def no_host(cluster: Cluster) -> Iterator[str]:
    """Nothing of the node: no network, processes, messages, paths or ports of it."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if cluster.pod.get(name):
            yield name
    for volume in cluster.pod.get("volumes", ()):
        yield from sorted(f"volume of kind {kind}" for kind in set(volume) - {"name"} - VOLUMES)
    for container in cluster.containers:
        yield from (f"hostPort {port['hostPort']}" for port in container.get("ports", ()) if port.get("hostPort"))


@rule
def restricted(cluster: Cluster) -> Iterator[str]:
    """The restricted Pod Security Standard, and beyond it: nobody's ids and a root that cannot be written.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    yield from _context(cluster.pod.get("securityContext", {}), "pod")
    for container in cluster.containers:
        given = container.get("securityContext", {})
        wanted = {"privileged": False, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
        yield from (f"{name} of {container['name']}" for name, value in wanted.items() if given.get(name) is not value)
        if given.get("capabilities") != {"drop": ["ALL"]}:
            yield f"capabilities of {container['name']}"
        yield from _context({**cluster.pod.get("securityContext", {}), **given}, container["name"])


def _context(given: Object, whose: str) -> Iterator[str]:
    wanted = {"runAsNonRoot": True, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY}
    yield from (f"{name} of {whose}" for name, value in wanted.items() if given.get(name) != value)
    if given.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"seccompProfile of {whose}"
    for name in ("sysctls", "seLinuxOptions", "appArmorProfile", "supplementalGroups", "procMount"):
        if name in given:
            yield f"{name} of {whose}"


@rule
def no_token(cluster: Cluster) -> Iterator[str]:
    """No token of the API server is in a pod: workload identity goes by GKE's metadata server."""
    if cluster.pod.get("automountServiceAccountToken") is not False:
        yield "the pod mounts a token"
    for account in cluster.kind("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"the account {account['metadata']['name']} hands out its token"
    if any("serviceAccountToken" in each for each in mappings(cluster.pod.get("volumes", []))):
        yield "a volume holds a token"


@rule
def resources(cluster: Cluster) -> Iterator[str]:
    """What the security guide asks for: 512Mi and 500m requested, 1Gi and 1000m at most."""
    for container in cluster.containers:
        for kind, wanted in SEED.items():
            given = container.get("resources", {}).get(kind, {})
            yield from (f"{name} of {kind}" for name, value in wanted.items() if given.get(name) != value)
            if "ephemeral-storage" not in given:
                yield f"ephemeral-storage of {kind}"
    for volume in cluster.pod.get("volumes", ()):
        if "emptyDir" in volume and not {"medium", "sizeLimit"} <= set(volume["emptyDir"]):
            yield f"volume {volume['name']} has no size"


@rule
def image(cluster: Cluster) -> Iterator[str]:
    """The image by its digest, from our own registry: what was scanned is what runs."""
    yield from (each["image"] for each in cluster.containers if not DIGEST.fullmatch(each["image"]))
    command = ["/usr/bin/python3", "-m", "sessions.server"]
    if cluster.container.get("command") != command or "args" in cluster.container:
        yield "it does not start the session API"
