# One image for every command: `pillion sidecar` beside an application, `pillion operator` as the control plane.
# Build arguments let an air-gapped site name its own base; package indexes come from the builder's own configuration.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements/all.txt requirements/bootstrap.txt requirements/
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/bootstrap.txt \
 && python3 -m venv --without-pip /opt/pillion \
 && /opt/build/bin/uv pip install --no-cache --python /opt/pillion/bin/python --require-hashes --compile-bytecode -r requirements/all.txt
COPY pyproject.toml README.md LICENSE ./
COPY sidecars/src sidecars/src
COPY operator/src operator/src
RUN /opt/build/bin/uv pip install --no-cache --python /opt/pillion/bin/python --no-deps --compile-bytecode .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Pillion" \
      org.opencontainers.image.description="Backend plumbing for every pod, on localhost" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/pillion /opt/pillion
COPY --from=build /src/LICENSE /opt/pillion/LICENSE
# No name is needed for an unprivileged user: restricted Pod Security asks for a number other than 0.
USER 65532:65532
ENV PATH=/opt/pillion/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 3700 3701 3790
ENTRYPOINT ["pillion"]
CMD ["sidecar"]
