# One image for every function, for the session API and for the migrations: SERVICE says which function it is; a pod of
# the session API starts with the command `python3 -m sessions.server` instead.
# A release gives both images by digest: --build-arg BUILDER=…@sha256:… --build-arg RUNTIME=…@sha256:…
ARG BUILDER=debian:bookworm-slim
ARG RUNTIME=gcr.io/distroless/python3-debian12:nonroot

# Debian's own Python is the runtime's, to the last digit: the lock file has a line that depends on it (async-timeout).
FROM ${BUILDER} AS builder
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip
WORKDIR /app
COPY requirements.txt .
RUN python3 -m pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: --target lib -r requirements.txt
COPY common common
COPY functions functions
COPY migrations migrations
COPY sessions sessions
# Byte-code that never looks at its sources again.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash lib common functions migrations sessions

FROM ${RUNTIME}
WORKDIR /app
COPY --from=builder /app /app
ENV PYTHONPATH=/app/lib:/app PYTHONUNBUFFERED=1 GRANIAN_BLOCKING_THREADS=8
USER nonroot:nonroot
EXPOSE 8080
# No shell: the number of threads comes as GRANIAN_BLOCKING_THREADS, equal to the service's concurrency.
ENTRYPOINT ["/usr/bin/python3", "-m", "granian"]
CMD ["--interface", "wsgi", "--host", "0.0.0.0", "--port", "8080", "--no-ws", "--http", "1", "--workers", "1", "--log-level", "error", "--factory", "common.server:app"]
