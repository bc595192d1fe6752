"""Traces and metrics of a running stack."""
