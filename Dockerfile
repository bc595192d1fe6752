# One image for every function, for the session API and for the jobs: SERVICE says which function it is; a pod of the
# session API starts with the command `python3 -m sessions.server` instead, a job with `python3 -m migrations.apply`.
# A release gives both images by digest: --build-arg BUILDER=…@sha256:… --build-arg RUNTIME=…@sha256:…
# What the builder does below, tools/image does to build/image from these very lines, and tests/image starts it.
ARG BUILDER=debian:trixie-slim
ARG RUNTIME=gcr.io/distroless/python3-debian13:nonroot

# Debian's own Python is the runtime's, to the last digit. Debian 12's images have had no updates since September 2026.
FROM ${BUILDER} AS builder
SHELL ["/bin/sh", "-euc"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip
WORKDIR /app
COPY requirements.txt .
RUN python3 -m pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: --target lib -r requirements.txt
# Programs of libraries are for people at a shell; there is none.
RUN rm -r lib/bin requirements.txt
# Byte-code that never looks at its sources again: one file after the other and with a fixed seed, so always the same.
RUN PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash lib
COPY common common
COPY functions functions
COPY migrations migrations
COPY sessions sessions
RUN PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash common functions migrations sessions
# Times of files would make two builds of one commit differ.
RUN find . -exec touch --no-dereference --date @0 {} +

FROM ${RUNTIME}
ARG REVISION=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="dev-context" \
      org.opencontainers.image.description="Functions, session API and jobs of Dev Context" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
WORKDIR /app
COPY --from=builder /app /app
ENV PYTHONPATH=/app/lib:/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 GRANIAN_BLOCKING_THREADS=8
ENV RELEASE=${REVISION}
# nobody, as the manifests of the cluster say: `nonroot` of the base is 65532.
USER 65534:65534
EXPOSE 8080
# Cloud Run and Kubernetes ask GET /health/ themselves and ignore what an image says; there is no shell to ask with.
HEALTHCHECK NONE
# No shell: the number of threads comes as GRANIAN_BLOCKING_THREADS, equal to the service's concurrency.
ENTRYPOINT ["/usr/bin/python3", "-m", "granian"]
CMD ["--interface", "wsgi", "--host", "0.0.0.0", "--port", "8080", "--no-ws", "--http", "1", "--workers", "1", "--log-level", "error", "--factory", "common.server:app"]
