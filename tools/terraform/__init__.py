"""Terraform checked without a network and without an account."""
