"""What the operator of the platform may do: `python -m migrations.operator ACT`, as a Cloud Run job or by hand."""
