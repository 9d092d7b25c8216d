# The same for all stages: the virtual environment points to this Python. For reproducible builds, pin it by digest:
# --build-arg BASE=docker.io/library/python:3.13-slim@sha256:...
ARG BASE=docker.io/library/python:3.13-slim

# ---- the build environment, which is not shipped ----
# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/crrmon \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/crrmon
# The certificates of the base image, or those mounted over them if a proxy intercepts TLS.
ENV UV_SYSTEM_CERTS=1
# A separate venv for uv; the one that is shipped has no pip.
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir --quiet uv==${UV_VERSION} \
    && python3 -m venv --without-pip /opt/crrmon
WORKDIR /build
# Dependencies rarely change: a separate layer, and wheels only, so that no compiler is needed.
COPY pyproject.toml uv.lock ./
RUN /uv/bin/uv sync --locked --no-dev --no-install-project --no-build --python /opt/crrmon/bin/python3
COPY README.md LICENSE ./
COPY src src
RUN /uv/bin/uv sync --locked --no-dev --no-editable --python /opt/crrmon/bin/python3

# ---- the daemon with an emulated AWS, for compose.yaml ----
FROM build AS build-sandbox
RUN /uv/bin/uv sync --locked --no-dev --no-editable --extra sandbox --python /opt/crrmon/bin/python3

# ---- shared by both images ----
# hadolint ignore=DL3006
FROM ${BASE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="crrmon" \
      org.opencontainers.image.description="Follows every object through Amazon S3 replication" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A container has its own network. Host and port override the configuration file, so that the health check knows the port.
ENV PATH=/opt/crrmon/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    CRRMON_HTTP__HOST=:: \
    CRRMON_HTTP__PORT=9464
# The official images have no bytecode of the standard library, and a read-only root never gets any: each process,
# including the health check's, would compile its imports.
RUN python3 -m compileall -q -j 0 "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# By number, so that Kubernetes can verify that it is not root.
RUN install -d -o 10001 -g 10001 -m 0750 /data
USER 10001:10001
# The ledger's file is in the working directory, unless the configuration says otherwise.
WORKDIR /data
VOLUME /data
EXPOSE 9464
ENTRYPOINT ["crrmon"]

FROM base AS sandbox
COPY --from=build-sandbox /opt/crrmon /opt/crrmon
CMD ["sandbox", "--port", "9464"]

# ---- the daemon ----
FROM base AS daemon
COPY --from=build /opt/crrmon /opt/crrmon
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["python3", "-m", "crrmon.livez"]
CMD ["run"]
