"""The picture of the cloud: terraform/diagram.yaml becomes terraform/diagram.svg."""
