# syntax=docker/dockerfile:1
# The platform as one image, for each of its processes: code server, web server, daemon, scoring service, commands.
#   docker build -t my-platform:0.1.0 .
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS wheels
# Torch for the CPU, a tenth of the size; for a GPU image: --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock constraints.txt ./
# Every file is one of the lock, by its hash. Torch and the extra `postgres` are not in it: constraints.txt pins them.
RUN pip wheel --no-deps --require-hashes --only-binary :all: -r requirements.lock -w /wheels \
    && pip wheel --no-deps -c constraints.txt dagster-postgres psycopg2-binary -w /wheels \
    && pip wheel -c constraints.txt --index-url "${TORCH_INDEX}" --extra-index-url https://pypi.org/simple torch -w /wheels
COPY . .
# What the extras need and no more is taken from those wheels: nothing of the development tools.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-index --find-links /wheels flit_core \
    && /opt/venv/bin/pip install --no-index --find-links /wheels --no-build-isolation '.[s3,serve,postgres]' \
    && /opt/venv/bin/pip check

FROM ${PYTHON}
# LightGBM loads OpenMP.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home platform \
    && install -d -o platform -g platform /data
COPY --from=wheels /opt/venv /opt/venv
COPY --chown=platform:platform . /app
# The code runs from /app, where deploy/, dbt/ and dagster.yaml lie beside it.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=passive \
    MY_PLATFORM_HOME=/data/home \
    DAGSTER_HOME=/data/home/dagster
WORKDIR /app
USER 10001:10001
VOLUME /data
EXPOSE 4000
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=4 \
    CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
CMD ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", "my_platform.definitions"]
