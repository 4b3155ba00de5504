# gankit for CPUs, with ONNX Runtime, OpenVINO and the service.
#
# This file has not been built where it was written: no Docker daemon was at hand. tests/test_docs.py checks its form.
#
#   docker build --tag gankit .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" gankit upscale photos/ --output upscaled/
#   docker run --rm --publish 127.0.0.1:8000:8000 --env GANKIT_TOKEN gankit serve --host 0.0.0.0
FROM python:3.12-slim

# The runtime library of OpenMP, which torch and OpenVINO use.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1

# torch first, from its own index, whose builds for CPUs bring no CUDA libraries; constraints.txt pins the version.
COPY constraints.txt /src/
RUN pip install --constraint /src/constraints.txt --index-url https://download.pytorch.org/whl/cpu \
        --extra-index-url https://pypi.org/simple torch

COPY pyproject.toml README.md LICENSE /src/
COPY gankit /src/gankit
COPY export /src/export
COPY kernels /src/kernels
RUN pip install --constraint /src/constraints.txt '/src[cpu,serve]' \
    && rm -rf /src

# Any user may run the container (--user) and may write to the cache; without --user it is this one.
RUN useradd --create-home --uid 1000 gankit \
    && mkdir /cache /work \
    && chmod 1777 /cache \
    && chown gankit:gankit /work
ENV GANKIT_CACHE=/cache/gankit
USER gankit
WORKDIR /work

ENTRYPOINT ["gankit"]
CMD ["--help"]
