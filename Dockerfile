# One image for every service; the command says which:
#
#   text2image-node serve --component text2image
#   python -m orchestrator_example serve
#
#   docker build -t text2image-node:cpu .
#   docker build -t text2image-node:cuda --build-arg TORCH_INDEX= .
#
# What changes least comes first: new code is one small layer on top of torch.

FROM python:3.11-slim-bookworm AS requirements
COPY pyproject.toml .
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['inference'], *extras['gateway'], *extras['s3'], sep='\n')" \
    > /requirements.txt


FROM python:3.11-slim-bookworm AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv
COPY constraints.txt .
ARG TORCH=torch==2.13.0
# Empty: the torch of PyPI, which on Linux is a CUDA build of gigabytes.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt "$TORCH" \
    # What serves to build against torch and to test it.
    && cd /opt/venv/lib/python3.11/site-packages/torch \
    && rm -rf include test bin/protoc* bin/test_*
COPY --from=requirements /requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install -c constraints.txt -r requirements.txt


FROM python:3.11-slim-bookworm AS code
COPY LICENSE README.md pyproject.toml /src/
COPY contracts /src/contracts
COPY node /src/node
COPY orchestrator_example /src/orchestrator_example
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels-of-ours /src


FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin node \
    && install -d -o node -g node /models /results /artifacts
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=code,source=/wheels-of-ours,target=/mnt/wheels \
    pip --python /opt/venv/bin/python --no-cache-dir install --no-deps /mnt/wheels/*.whl
# HOME and caches are written to; everything else may be read-only.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp HF_HOME=/models PYTHONUNBUFFERED=1 \
    NODE_HTTP_HOST=0.0.0.0 NODE_LOG_FORMAT=json
USER node
WORKDIR /tmp
EXPOSE 8081
# A node is ready when it has made a picture; before that it may have to download its model.
HEALTHCHECK --interval=5s --timeout=5s --start-period=1800s --retries=6 CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8081/health/ready', timeout=4)"]
CMD ["text2image-node", "serve"]
