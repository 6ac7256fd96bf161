# syntax=docker/dockerfile:1
# fleetmon with the demonstration as its default command: docker build -t fleetmon . && docker run --rm -p 127.0.0.1:9003:9003 fleetmon
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fleetmon fleetmon
COPY tui tui
RUN python -m venv /opt/fleetmon \
    && /opt/fleetmon/bin/pip install --no-cache-dir '.[tui,yaml,otlp,uvloop]'

FROM python:3.13-slim
# numbers, so that a cluster can see that it is not root
RUN groupadd --gid 10001 fleetmon && useradd --uid 10001 --gid 10001 --no-create-home fleetmon \
    && install -d -o 10001 -g 10001 /var/log/fleetmon
COPY --from=build /opt/fleetmon /opt/fleetmon
ENV PATH=/opt/fleetmon/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLEETMON_METRICS=0.0.0.0:9003
USER 10001:10001
WORKDIR /tmp
EXPOSE 9003
# SIGTERM makes /readyz false, drains, then stops
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9003/healthz', timeout=2)"]
CMD ["fleetmon", "demo"]
