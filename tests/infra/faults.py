"""Manifests with one mistake each, by the rule that must find it."""

from collections.abc import Callable
from typing import Any

from tests.infra.cluster import Object

Fault = Callable[[list[Object]], Object]
POD = "spec/template/spec"
MAIN = f"{POD}/containers/0"
DEPLOYMENT, SCALER, NETWORK = "Deployment/sessions", "HorizontalPodAutoscaler/sessions", "NetworkPolicy/sessions"
COPY, STORE, SERVICE = "ExternalSecret/sessions", "SecretStore/secret-manager", "Service/sessions"
TAGGED = "europe-west1-docker.pkg.dev/dev-context-production/dev-context/dev-context:latest"
EVERYWHERE: Object = {"cidr": "0.0.0.0/0"}


def change(whose: str, path: str, value: Any) -> Fault:
    """A value at a path of an object, whether there was one or not; `…/-` appends to a list."""

    def fault(objects: list[Object]) -> Object:
        found = _find(objects, whose)
        where, last = _way(found, path)
        if last == "-":
            where.append(value)
        else:
            where[last] = value
        return found

    return fault


def remove(whose: str, path: str) -> Fault:
    """What stands at a path of an object is gone."""

    def fault(objects: list[Object]) -> Object:
        found = _find(objects, whose)
        where, last = _way(found, path)
        del where[last]
        return found

    return fault


def add(given: Object) -> Fault:
    """One object more."""

    def fault(objects: list[Object]) -> Object:
        objects.append(given)
        return given

    return fault


def setting(name: str, value: str) -> Fault:
    """Another value of a setting, or a new setting."""

    def fault(objects: list[Object]) -> Object:
        (found,) = [each for each in objects if each["kind"] == "ConfigMap"]
        found["data"][name] = value
        return dict(found)

    return fault


def _find(objects: list[Object], whose: str) -> Object:
    (found,) = [each for each in objects if f"{each['kind']}/{each['metadata']['name']}" == whose]
    return found


def _way(where: Any, path: str) -> tuple[Any, Any]:
    *way, last = path.split("/")
    for part in way:
        where = where[int(part)] if isinstance(where, list) else where.setdefault(part.replace("~1", "/"), {})
    return where, int(last) if isinstance(where, list) and last != "-" else last.replace("~1", "/")


FAULTS: dict[str, list[Fault]] = {
    "schemas": [
        change(DEPLOYMENT, f"{MAIN}/securityContext/readOnlyRootFileSystem", True),
        change(DEPLOYMENT, f"{MAIN}/resources/limit", {}),
        change(DEPLOYMENT, f"{POD}/terminationGracePeriodSeconds", "90"),
        change(DEPLOYMENT, "apiVersion", "extensions/v1beta1"),
        change(NETWORK, "spec/policytypes", ["Egress"]),
        change(SCALER, "spec/minReplica", 2),
        remove(DEPLOYMENT, "spec/selector"),
        change(COPY, "apiVersion", "external-secrets.io/v1beta1"),
        change(COPY, "spec/refreshIntervall", "1h"),
        remove(COPY, "spec/data/0/remoteRef/key"),
        change(STORE, "spec/provider/gcpsm/auth/secretRef", {"name": "a-key-file"}),
        change("Namespace/dev-context", "metadata/label", {}),
    ],
    "kinds": [
        add({"kind": "Secret", "metadata": {"name": "sessions"}}),
        add({"kind": "ClusterRoleBinding", "metadata": {"name": "sessions"}}),
        add({"kind": "ClusterRole", "metadata": {"name": "release"}}),
        add({"kind": "Service", "metadata": {"name": "sessions"}}),
    ],
    "release": [
        change("Role/release", "rules/0/verbs/-", "delete"),
        remove("Role/release", "rules/0/resourceNames"),
        change("Role/release", "rules/-", {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
        change("RoleBinding/release", "subjects/0/name", "dc-release@dev-context-staging.iam.gserviceaccount.com"),
        change("RoleBinding/release", "subjects/-", {"kind": "Group", "name": "system:authenticated"}),
        change("RoleBinding/release", "roleRef", {"kind": "ClusterRole", "name": "edit"}),
        add({"kind": "Role", "metadata": {"name": "another"}, "rules": []}),
    ],
    "namespace": [
        change(SERVICE, "metadata/namespace", "default"),
        change("Namespace/dev-context", "metadata/labels/pod-security.kubernetes.io~1enforce", "baseline"),
        change("Namespace/dev-context", "metadata/labels/pod-security.kubernetes.io~1enforce-version", "latest"),
    ],
    "no_host": [
        change(DEPLOYMENT, f"{POD}/hostNetwork", True),
        change(DEPLOYMENT, f"{POD}/hostPID", True),
        change(DEPLOYMENT, f"{POD}/hostIPC", True),
        change(DEPLOYMENT, f"{MAIN}/ports/0/hostPort", 8080),
        change(DEPLOYMENT, f"{POD}/volumes/-", {"name": "node", "hostPath": {"path": "/"}}),
    ],
    "restricted": [
        change(DEPLOYMENT, f"{MAIN}/securityContext/privileged", True),
        change(DEPLOYMENT, f"{MAIN}/securityContext/allowPrivilegeEscalation", True),
        change(DEPLOYMENT, f"{MAIN}/securityContext/capabilities/add", ["NET_ADMIN"]),
        change(DEPLOYMENT, f"{MAIN}/securityContext/runAsUser", 0),
        change(DEPLOYMENT, f"{MAIN}/securityContext/procMount", "Unmasked"),
        change(DEPLOYMENT, f"{POD}/securityContext/runAsGroup", 0),
        change(DEPLOYMENT, f"{POD}/securityContext/seccompProfile", {"type": "Unconfined"}),
        change(DEPLOYMENT, f"{POD}/securityContext/sysctls", [{"name": "net.core.somaxconn", "value": "9"}]),
        remove(DEPLOYMENT, f"{MAIN}/securityContext/readOnlyRootFilesystem"),
        remove(DEPLOYMENT, f"{POD}/securityContext/runAsNonRoot"),
        change(DEPLOYMENT, f"{POD}/initContainers", [{"name": "first"}]),
    ],
    "no_token": [
        remove(DEPLOYMENT, f"{POD}/automountServiceAccountToken"),
        change("ServiceAccount/sessions", "automountServiceAccountToken", True),
        change(DEPLOYMENT, f"{POD}/volumes/-", {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
    ],
    "resources": [
        remove(DEPLOYMENT, f"{MAIN}/resources/limits/memory"),
        change(DEPLOYMENT, f"{MAIN}/resources/requests/cpu", "50m"),
        remove(DEPLOYMENT, f"{MAIN}/resources/limits/ephemeral-storage"),
        remove(DEPLOYMENT, f"{POD}/volumes/1/emptyDir/sizeLimit"),
        change(DEPLOYMENT, f"{POD}/initContainers", [{"name": "first"}]),
    ],
    "image": [
        change(DEPLOYMENT, f"{MAIN}/image", TAGGED),
        change(DEPLOYMENT, f"{MAIN}/image", "dev-context"),
        change(DEPLOYMENT, f"{MAIN}/image", f"docker.io/dev-context@sha256:{64 * 'f'}"),
        change(DEPLOYMENT, f"{MAIN}/command", ["/bin/sh", "-c", "python3 -m sessions.server"]),
        change(DEPLOYMENT, f"{MAIN}/args", ["--reload"]),
    ],
    "probes": [
        change(DEPLOYMENT, f"{MAIN}/readinessProbe/httpGet/path", "/health/ready"),
        change(DEPLOYMENT, f"{MAIN}/livenessProbe/httpGet/path", "/health/ready"),
        remove(DEPLOYMENT, f"{MAIN}/startupProbe"),
        change(DEPLOYMENT, f"{MAIN}/livenessProbe/timeoutSeconds", 1),
    ],
    "end": [
        remove(DEPLOYMENT, f"{MAIN}/lifecycle"),
        change(DEPLOYMENT, f"{MAIN}/lifecycle/preStop", {"exec": {"command": ["sleep", "30"]}}),
        change(DEPLOYMENT, f"{MAIN}/lifecycle/preStop/sleep/seconds", 5),
        change(DEPLOYMENT, f"{POD}/terminationGracePeriodSeconds", 60),
        setting("DRAIN_SECONDS", "60"),
    ],
    "rollout": [
        change(DEPLOYMENT, "spec/strategy/rollingUpdate/maxUnavailable", 1),
        change(DEPLOYMENT, "spec/strategy", {"type": "Recreate"}),
        change(DEPLOYMENT, "spec/strategy/rollingUpdate/maxSurge", "100%"),
        change(DEPLOYMENT, "spec/replicas", 2),
        remove(DEPLOYMENT, f"{POD}/topologySpreadConstraints"),
        change(DEPLOYMENT, f"{POD}/topologySpreadConstraints/0/labelSelector/matchLabels", {"app": "sessions"}),
    ],
    "scale": [
        change(SCALER, "spec/minReplicas", 1),
        change(SCALER, "spec/maxReplicas", 50),
        change(SCALER, "spec/scaleTargetRef/name", "session"),
        remove(SCALER, "spec/metrics/0"),
        setting("DATABASE_POOL", "64"),
        change("PodDisruptionBudget/sessions", "spec/maxUnavailable", "100%"),
        change("PodDisruptionBudget/sessions", "spec/selector/matchLabels", {"app": "sessions"}),
    ],
    "ways_in": [
        change("NetworkPolicy/default-deny", "spec/ingress", [{}]),
        change("NetworkPolicy/default-deny", "spec/policyTypes", ["Ingress"]),
        change(NETWORK, "spec/ingress/0/from/-", {"ipBlock": EVERYWHERE}),
        change(NETWORK, "spec/ingress/0/from/-", {"namespaceSelector": {}}),
        remove(NETWORK, "spec/ingress/0/from"),
        remove(NETWORK, "spec/ingress/0/from/1"),
        remove(NETWORK, "spec/ingress/0/ports"),
        change(NETWORK, "spec/ingress/0/ports/0/endPort", 9000),
        change(SERVICE, "spec/type", "LoadBalancer"),
        change(SERVICE, "spec/externalIPs", ["203.0.113.7"]),
        change(SERVICE, "metadata/annotations/cloud.google.com~1neg", '{"ingress": true}'),
        change(DEPLOYMENT, f"{MAIN}/ports/0/containerPort", 8000),
    ],
    "ways_out": [
        change(NETWORK, "spec/egress/-", {}),
        change(NETWORK, "spec/egress/-", {"to": [{"ipBlock": EVERYWHERE}], "ports": [{"protocol": "TCP", "port": 80}]}),
        remove(NETWORK, "spec/egress/0/ports"),
        change(NETWORK, "spec/egress/0/to/0/ipBlock/cidr", "10.0.0.0/8"),
        remove(NETWORK, "spec/egress/1"),
        remove(NETWORK, "spec/egress/1/to/2/podSelector"),
        remove(NETWORK, "spec/egress/2"),
        remove(NETWORK, "spec/egress/4/to/0/ipBlock/except"),
        remove(NETWORK, "spec/egress/4/to/0/ipBlock/except/0"),
        change(NETWORK, "spec/egress/4/ports/0/endPort", 65535),
    ],
    "selectors": [
        change(DEPLOYMENT, "spec/template/metadata/labels", {"app": "sessions"}),
        change(SERVICE, "spec/selector", {"app": "sessions"}),
        change(NETWORK, "spec/podSelector", {"matchLabels": {"app.kubernetes.io/name": "session"}}),
    ],
    "secrets": [
        remove(COPY, "spec/data/0"),
        change(COPY, "spec/data/-", {"secretKey": "jwt-keyring", "remoteRef": {"key": "jwt-keyring"}}),
        change(COPY, "spec/data/1/remoteRef/key", "mail-key"),
        change(COPY, "spec/refreshInterval", "1h"),
        setting("SECRETS_CACHE_SECONDS", "60"),
        change(COPY, "spec/secretStoreRef/kind", "ClusterSecretStore"),
        change(DEPLOYMENT, f"{MAIN}/volumeMounts/0/subPath", "edge-key"),
        change(DEPLOYMENT, f"{POD}/volumes/0/secret/defaultMode", 0o644),
        change(DEPLOYMENT, f"{POD}/volumes/0/secret/secretName", "session-secrets"),
        change(DEPLOYMENT, f"{MAIN}/env", [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]),
        change(DEPLOYMENT, f"{MAIN}/envFrom/-", {"secretRef": {"name": "sessions-secrets"}}),
    ],
    "identity": [
        change("ServiceAccount/sessions", "metadata/annotations", {}),
        change(DEPLOYMENT, f"{POD}/serviceAccountName", "default"),
        change(STORE, "spec/provider/gcpsm/auth/workloadIdentity/serviceAccountRef/name", "sessions"),
        change(STORE, "spec/provider/gcpsm/projectID", "another-project"),
        setting("DATABASE_URL", "postgresql://sessions@10.10.32.2/context"),
        setting("PROJECT_ID", "another-project"),
    ],
    "settings": [
        setting("DATABSE_POOL", "8"),
        setting("SERVICE", "projects"),
        setting("VALKEY_URL", "redis://10.10.32.3:6379"),
        setting("VALKEY_IAM", "false"),
        setting("VALKEY_CA", "/etc/ssl/certs/ca-certificates.crt"),
        setting("PUBLIC_URL", "http://api.example.com"),
        setting("SMTP_URL", "smtp://somebody:word@mail.example.com"),  # pragma: allowlist secret
        change(DEPLOYMENT, f"{MAIN}/envFrom/0/configMapRef/name", "sessions"),
    ],
}
