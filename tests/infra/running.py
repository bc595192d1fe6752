"""The rules of how the session API runs: its end, its scale, its network, its secrets and settings."""

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any
from urllib.parse import parse_qs, urlsplit

from common.settings import Settings
from sessions import hub, server
from tests.infra.cluster import NAMESPACE, Cluster, Object, mappings, seconds
from tests.infra.policies import rule

SELECTS = {"app.kubernetes.io/name": "sessions"}
AUTHORITIES = "valkey-ca"  # public, but it follows a rotation like the keys
NEG = "dev-context-sessions"
PORT = Settings.port
FRONTS = {"130.211.0.0/22", "35.191.0.0/16"}
DATABASE_SUBNET = "10.10.32.0/20"
INSIDE = {"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
NAMES = ("kube-system: k8s-app in kube-dns, node-local-dns", "169.254.20.10/32", "169.254.169.254/32")
EGRESS = {
    (DATABASE_SUBNET, "TCP", 3307),
    (DATABASE_SUBNET, "TCP", 6379),
    *((peer, protocol, 53) for peer in NAMES for protocol in ("UDP", "TCP")),
    *(("169.254.169.254/32", "TCP", port) for port in (80, 8080)),
    *(("169.254.169.252/32", "TCP", port) for port in (987, 988)),
    ("0.0.0.0/0", "TCP", 443),
}
LEAVING_SECONDS = 30  # until the last front of the load balancer knows that an endpoint has left its group
MARGIN_SECONDS = 20  # threads that wait for a statement, and the interpreter's end
KUBELET_SECONDS = 90  # a mounted Secret follows within a synchronization of the kubelet: 60 to 90 s
ROTATION_SECONDS = 120  # the quickest rotation waits twice the minute in which a reader looks again


@rule
def probes(cluster: Cluster) -> Iterator[str]:
    """A pod starts when its dependencies answer, serves as long as it says so, and lives without any."""
    paths = {"startupProbe": "/health/ready", "readinessProbe": "/health/serving", "livenessProbe": "/health/"}
    for name, path in paths.items():
        if cluster.container.get(name, {}).get("httpGet") != {"path": path, "port": "http"}:
            yield name
        elif cluster.container[name]["timeoutSeconds"] < 2:
            yield f"{name} has no time to answer"


@rule
def end(cluster: Cluster) -> Iterator[str]:
    """A pod leaves the load balancer, then drains, then ends; and has the time for all of it."""
    pre_stop = cluster.container.get("lifecycle", {}).get("preStop", {})
    if set(pre_stop) != {"sleep"}:
        yield "preStop must be the kubelet's own sleep: the image has no shell"
        return
    waiting = pre_stop["sleep"]["seconds"]
    drain = int(cluster.settings.get("DRAIN_SECONDS", Settings.drain_seconds)) + hub.LAST_WORDS_SECONDS
    if waiting < LEAVING_SECONDS:
        yield "SIGTERM comes while the load balancer still sends requests"
    if waiting + drain + server.GRACE_SECONDS + MARGIN_SECONDS > cluster.pod["terminationGracePeriodSeconds"]:
        yield "SIGKILL comes before the drain is over"


@rule
def rollout(cluster: Cluster) -> Iterator[str]:
    """No pod goes before its successor serves; they stand in different zones."""
    update = cluster.deployment["strategy"].get("rollingUpdate", {})
    if update.get("maxUnavailable") != 0:
        yield "maxUnavailable"
    if update.get("maxSurge") != "50%":
        yield "maxSurge: with those that drain, the connection budget allows twice the pods"
    if "replicas" in cluster.deployment:
        yield "an apply would undo what the autoscaler decided"
    spread = {each["topologyKey"]: each for each in cluster.pod.get("topologySpreadConstraints", ())}
    zones: Object = spread.get("topology.kubernetes.io/zone", {})
    if (zones.get("maxSkew"), zones.get("whenUnsatisfiable")) != (1, "DoNotSchedule"):
        yield "zones"
    yield from (key for key, each in spread.items() if each["labelSelector"] != {"matchLabels": SELECTS})


@rule
def scale(cluster: Cluster) -> Iterator[str]:
    """As many as the catalog says, which the database's connections are counted with; never all gone at once."""
    scaler = cluster.one("HorizontalPodAutoscaler")["spec"]
    if scaler["scaleTargetRef"] != {"apiVersion": "apps/v1", "kind": "Deployment", "name": "sessions"}:
        yield "it scales something else"
    if not 2 <= cluster.workload["min_replicas"] <= scaler["minReplicas"] <= scaler["maxReplicas"]:
        yield "minReplicas"
    if scaler["maxReplicas"] > cluster.workload["max_replicas"]:
        yield "maxReplicas"
    if [each["resource"]["name"] for each in scaler["metrics"]] != ["cpu", "memory"]:
        yield "metrics"
    if cluster.settings.get("DATABASE_POOL") != str(cluster.workload["pool"]):
        yield "DATABASE_POOL"
    budget = cluster.one("PodDisruptionBudget")["spec"]
    if budget.get("maxUnavailable") != 1 or budget["selector"] != {"matchLabels": SELECTS}:
        yield "PodDisruptionBudget"


@rule
def ways_in(cluster: Cluster) -> Iterator[str]:
    """The load balancer's ranges, on the one port; by a network endpoint group of a fixed name, and no other way."""
    policies = [each["spec"] for each in cluster.kind("NetworkPolicy")]
    if not any(each == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for each in policies):
        yield "not everything is denied by default"
    opened = {way for each in policies for way in ways(each.get("ingress", ()), "from")}
    yield from sorted(map(str, opened ^ {(front, "TCP", PORT) for front in FRONTS}))
    (service,) = cluster.kind("Service")
    spec, annotations = service["spec"], service["metadata"]["annotations"]
    if spec["type"] != "ClusterIP" or {"externalIPs", "externalName"} & set(spec):
        yield "the Service is open"
    (port,) = spec["ports"]
    if set(annotations) != {"cloud.google.com/neg"}:
        yield "annotations of the Service"
    elif json.loads(annotations["cloud.google.com/neg"]) != {"exposed_ports": {str(port["port"]): {"name": NEG}}}:
        yield "the network endpoint group"
    if cluster.container["ports"] != [{"name": port["targetPort"], "containerPort": PORT, "protocol": "TCP"}]:
        yield "ports"


@rule
def ways_out(cluster: Cluster) -> Iterator[str]:
    """The database subnet, names, the metadata server, and 443 outside of every network: exactly these."""
    opened = {way for each in cluster.kind("NetworkPolicy") for way in ways(each["spec"].get("egress", ()), "to")}
    yield from sorted(map(str, opened ^ EGRESS))
    for block in (each["ipBlock"] for each in mappings(cluster.kind("NetworkPolicy")) if "ipBlock" in each):
        if set(block.get("except", ())) != (INSIDE if block["cidr"] == "0.0.0.0/0" else set()):
            yield f"exceptions of {block['cidr']}"


def ways(rules: Any, side: str) -> Iterator[tuple[str, str, int | str]]:
    """What the rules of a NetworkPolicy open, as (peer, protocol, port); what they leave out is `anything`."""
    for each in rules:
        for peer in each.get(side) or [{}]:
            for port in each.get("ports") or [{}]:
                number = port.get("port", "anything")
                shown = f"{number}-{port['endPort']}" if "endPort" in port else number
                yield _peer(peer), port.get("protocol", "anything"), shown


def _peer(peer: Object) -> str:
    if set(peer) == {"ipBlock"}:
        return str(peer["ipBlock"]["cidr"])
    space = peer.get("namespaceSelector", {}).get("matchLabels", {})
    chosen = peer.get("podSelector", {}).get("matchExpressions", [{}])
    if set(space) == {"kubernetes.io/metadata.name"} and len(chosen) == 1 and chosen[0].get("operator") == "In":
        return f"{space['kubernetes.io/metadata.name']}: {chosen[0]['key']} in {', '.join(chosen[0]['values'])}"
    return json.dumps(peer) if peer else "anything"


@rule
def selectors(cluster: Cluster) -> Iterator[str]:
    """What is meant for the pods finds them, and nothing else."""
    if not SELECTS.items() <= cluster.template["metadata"]["labels"].items():
        yield "labels of the pods"
    found = {
        "Deployment": cluster.deployment["selector"]["matchLabels"],
        "Service": cluster.one("Service")["spec"]["selector"],
        "NetworkPolicy": cluster.one("NetworkPolicy")["spec"]["podSelector"].get("matchLabels"),
    }
    yield from (kind for kind, selector in found.items() if selector != SELECTS)


@rule
def secrets(cluster: Cluster) -> Iterator[str]:
    """The workload's secrets and no other, as files that follow a rotation, never as variables."""
    copy = cluster.one("ExternalSecret")["spec"]
    wanted = {*cluster.workload["secrets"], f"context-key-{cluster.workload['role']}", AUTHORITIES, "sentry-dsn"}
    yield from sorted({each["secretKey"] for each in copy["data"]} ^ wanted)
    yield from (each["secretKey"] for each in copy["data"] if each["remoteRef"] != {"key": each["secretKey"]})
    (store,) = cluster.kind("SecretStore")
    if copy["secretStoreRef"] != {"kind": "SecretStore", "name": store["metadata"]["name"]}:
        yield "secretStoreRef"
    late = seconds(copy["refreshInterval"]) + KUBELET_SECONDS + int(cluster.settings["SECRETS_CACHE_SECONDS"])
    if not KUBELET_SECONDS < late < min(ROTATION_SECONDS, Settings.key_settle_seconds):
        yield f"a new key is known after {late} s only"
    mounts = {each["name"]: each for each in cluster.container["volumeMounts"]}
    volumes = {each["name"]: each for each in cluster.pod["volumes"]}
    if mounts.get("secrets") != {"name": "secrets", "mountPath": cluster.settings["SECRETS_DIR"], "readOnly": True}:
        yield "the mount: whole, at SECRETS_DIR and read-only, or a rotation does not reach it"
    if volumes.get("secrets", {}).get("secret") != {"secretName": copy["target"]["name"], "defaultMode": 0o440}:
        yield "the volume"
    if "env" in cluster.container or [set(each) for each in cluster.container["envFrom"]] != [{"configMapRef"}]:
        yield "variables from elsewhere than the ConfigMap"


@rule
def identity(cluster: Cluster) -> Iterator[str]:
    """The pods' account is the database login; who reads the secrets is another account, which no pod has."""
    project = cluster.settings["PROJECT_ID"]
    account = cluster.one("ServiceAccount")["metadata"].get("annotations", {})
    if account != {"iam.gke.io/gcp-service-account": f"dc-sessions@{project}.iam.gserviceaccount.com"}:
        yield "workload identity"
    if cluster.pod.get("serviceAccountName") != "sessions":
        yield "serviceAccountName"
    provider = cluster.one("SecretStore", "secret-manager")["spec"]["provider"]["gcpsm"]
    reader = provider["auth"]["workloadIdentity"]["serviceAccountRef"]["name"]
    if reader == "sessions" or "annotations" in cluster.one("ServiceAccount", reader)["metadata"]:
        yield "who reads the secrets"
    if provider["projectID"] != project or f"/{project}/" not in cluster.container["image"]:
        yield "another project"
    url = urlsplit(cluster.settings["DATABASE_URL"])
    if url.scheme != "cloudsql" or parse_qs(url.query) != {"user": [f"dc-sessions@{project}.iam"]}:
        yield "the database login"
    if not url.netloc.startswith(f"{project}:"):
        yield "another project's database"


@rule
def settings(cluster: Cluster) -> Iterator[str]:
    """Settings that exist, all that are required, each by TLS, and none that is a secret."""
    known = {field.name.upper(): field for field in fields(Settings)}
    yield from sorted(f"{name} is no setting" for name in set(cluster.settings) - set(known))
    required = {name for name, field in known.items() if field.default is MISSING}
    yield from sorted(f"{name} is missing" for name in required - set(cluster.settings))
    if cluster.settings.get("SERVICE") != "sessions":
        yield "SERVICE"
    schemes = {"PUBLIC_URL": "https", "SERVICE_URL": "https", "VALKEY_URL": "rediss"}
    for name, scheme in schemes.items():
        if urlsplit(cluster.settings.get(name, "")).scheme != scheme:
            yield f"{name} is not {scheme}"
    if cluster.settings.get("VALKEY_CA") != f"{cluster.settings['SECRETS_DIR']}/{AUTHORITIES}":
        yield "VALKEY_CA"
    if cluster.settings.get("VALKEY_IAM") != "true":
        yield "VALKEY_IAM"
    yield from (name for name, value in cluster.settings.items() if urlsplit(value).password)
    (source,) = cluster.container["envFrom"]
    (given,) = cluster.kind("ConfigMap")
    if source["configMapRef"]["name"] != given["metadata"]["name"] or given["metadata"]["namespace"] != NAMESPACE:
        yield "the ConfigMap is not the pod's"
