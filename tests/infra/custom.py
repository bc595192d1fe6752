"""The two kinds of External Secrets Operator as closed schemas: what we may write, and nothing else.

Source: https://github.com/external-secrets/external-secrets/tree/main/apis/externalsecrets/v1
"""

from typing import Any

import jsonschema

Schema = dict[str, Any]
NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 253}


def record(required: str, **properties: Schema) -> Schema:
    """A closed object; `required` names its required members with spaces between."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def choice(*values: str) -> Schema:
    """One of some words."""
    return {"enum": list(values)}


NAMED: Schema = {**TEXT, "pattern": NAME}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = record("name namespace labels", name=NAMED, namespace=NAMED, labels=LABELS, annotations=LABELS)
SECRET = record(
    "secretKey remoteRef",
    secretKey={**TEXT, "pattern": "^[-._a-zA-Z0-9]+$"},
    remoteRef=record("key", key=TEXT, version=TEXT, property=TEXT, decodingStrategy=choice("None", "Base64")),
)
WORKLOAD_IDENTITY = record(
    "serviceAccountRef",
    serviceAccountRef=record("name", name=NAMED),
    clusterLocation=TEXT,
    clusterName=TEXT,
    clusterProjectID=TEXT,
)
PROVIDER = record(
    "gcpsm",
    gcpsm=record(
        "projectID auth",
        projectID=TEXT,
        location=TEXT,
        auth=record("workloadIdentity", workloadIdentity=WORKLOAD_IDENTITY),
    ),
)
SPECS: dict[str, Schema] = {
    "SecretStore": record("provider", provider=PROVIDER),
    "ExternalSecret": record(
        "refreshPolicy refreshInterval secretStoreRef target data",
        refreshPolicy=choice("Periodic"),
        refreshInterval={"type": "string", "pattern": "^([0-9]+(s|m|h))+$"},
        secretStoreRef=record("kind name", kind=choice("SecretStore"), name=NAMED),
        target=record(
            "name creationPolicy deletionPolicy",
            name=NAMED,
            creationPolicy=choice("Owner"),
            deletionPolicy=choice("Retain"),
        ),
        data={"type": "array", "items": SECRET, "minItems": 1, "uniqueItems": True},
    ),
}


def faults(given: Schema) -> list[str]:
    """What is wrong with an object of the operator. Raises KeyError for a kind that we do not use."""
    schema = record(
        "apiVersion kind metadata spec",
        apiVersion=choice("external-secrets.io/v1"),
        kind=choice(given["kind"]),
        metadata=METADATA,
        spec=SPECS[given["kind"]],
    )
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(given)]
