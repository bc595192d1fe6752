# One image for every function and for the migrations: SERVICE says which function it is.
# A release gives both images by digest: --build-arg BUILDER=…@sha256:… --build-arg RUNTIME=…@sha256:…
ARG BUILDER=python:3.11-slim-bookworm
ARG RUNTIME=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILDER} AS builder
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: --target lib -r requirements.txt
COPY common common
COPY functions functions
COPY migrations migrations
# The runtime has the same Python 3.11; it never checks the sources for changes.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash lib common functions migrations

FROM ${RUNTIME}
WORKDIR /app
COPY --from=builder /app /app
ENV PYTHONPATH=/app/lib:/app PYTHONUNBUFFERED=1 GRANIAN_BLOCKING_THREADS=8
USER nonroot:nonroot
EXPOSE 8080
# No shell: the number of threads comes as GRANIAN_BLOCKING_THREADS, equal to the service's concurrency.
ENTRYPOINT ["/usr/bin/python3", "-m", "granian"]
CMD ["--interface", "wsgi", "--host", "0.0.0.0", "--port", "8080", "--no-ws", "--http", "1", "--workers", "1", "--log-level", "error", "--factory", "common.server:app"]
