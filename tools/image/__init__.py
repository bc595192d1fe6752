"""The container without Docker: the Dockerfile's lines make its file tree here; its base is Debian's packages."""
