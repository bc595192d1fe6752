"""What the law wants told about the processing of personal data: the data map and both records of Art. 30 GDPR."""

from common import privacy
from common.http import Call, Json, Table
from functions.audit import privacy_queries as queries
from functions.audit.privacy_records_schemas import DataMap, Records

part = Table()


@part.on("GET", "/v1/privacy/data-map", needs="audit.view", body=None, answers=DataMap)
def get_data_map(_call: Call) -> Json:
    """Read where personal data are, whose, why, for how long, and what export and erasure do with them."""
    return privacy.data_map()


@part.on("GET", "/v1/privacy/records-of-processing", needs="audit.view", body=None, answers=Records)
def get_records_of_processing(call: Call) -> Json:
    """Read both records of processing (Art. 30 GDPR).

    `controller` is the operator's own; `processor` is what the operator does on behalf of this organization, which is
    the controller of its content.
    """
    organization = {"name": queries.select_organization_name(call.tx), "contact": ""}
    return {
        "controller": privacy.records_of_processing("controller"),
        "processor": privacy.records_of_processing("processor", controllers=[organization]),
    }
