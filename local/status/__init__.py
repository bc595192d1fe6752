"""The status page: what a stack does, for people who would rather look than read."""
