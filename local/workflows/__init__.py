"""The Google Workflows of the local cloud: executes workflows/*.yaml and serves the Executions REST API v1."""
