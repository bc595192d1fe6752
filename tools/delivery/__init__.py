"""The files by which this repository is delivered: read, and checked without any cloud."""
