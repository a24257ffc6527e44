# Two images from one file:  docker build --target cpu .   docker build --target cuda .
# Data, runs and params.yaml lie outside:  docker run --rm -v "$PWD:/work" -w /work IMAGE chatpainter-train stage1
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 UV_SYSTEM_PYTHON=1 UV_NO_CACHE=1
RUN python -m pip install --no-cache-dir "uv>=0.8"
WORKDIR /opt/chatpainter
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY store store
COPY words words
COPY pipeline pipeline
COPY trainer trainer
COPY evidence evidence
COPY painter painter

# torch without CUDA is a tenth of the size.
FROM base AS cpu
RUN uv pip install --compile-bytecode --constraint constraints.txt --torch-backend cpu ".[pipeline,trainer,metrics,painter,evidence,dvc,trained]"
WORKDIR /work
CMD ["chatpainter-paint", "--help"]

# PyPI's torch for Linux brings its CUDA libraries; the host has the driver (NVIDIA container toolkit).
FROM base AS cuda
RUN uv pip install --compile-bytecode --constraint constraints.txt ".[pipeline,trainer,metrics,painter,evidence,dvc,trained]"
WORKDIR /work
CMD ["chatpainter-train", "--help"]
