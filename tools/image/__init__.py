"""The container without Docker: the Dockerfile's own lines make its file tree here, and its base is Debian's packages."""
