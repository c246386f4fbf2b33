# Four images. The default is TensorFlow Serving with the models of ./model_repository:
#   docker build -t ladle/tensorflow-serving .                 serves on a GPU; for CPUs add --build-arg TENSORFLOW_SERVING_VARIANT=
#   docker build --target train -t ladle/train .               trains on a GPU
#   docker build --target server -t ladle/server .             serves on CPUs, without TensorFlow
#   docker build --target gateway -t ladle/gateway .           the page and its API
# `make check-deploy` builds server, gateway and, without NVIDIA's packages, train from this file, and runs them. It uses a clean Debian
# with Python as PYTHON_IMAGE. tensorflow-serving has never been run: the machine had no Docker engine, no GPU and no registry.

# The TensorFlow that exports, as in requirements.lock: a SavedModel may use operations that an older server lacks.
ARG TENSORFLOW_VERSION=2.21.0
ARG TENSORFLOW_SERVING_VARIANT=-gpu
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm


FROM ${PYTHON_IMAGE} AS python
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
COPY --chmod=555 deploy/tensorflow_serving/healthy.sh /usr/local/bin/healthy


# JSON's numbers, read and written by compiled code. The compiler stays in this stage.
FROM python AS compiled
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libpython3-dev && rm -r /var/lib/apt/lists
COPY requirements/compile.lock requirements.lock
RUN python -m venv --without-pip /build && \
    pip --python /build/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY serving/rest/json/compiled compiled
RUN /build/bin/cythonize --inplace compiled/*.pyx


FROM python AS server-build
COPY requirements/server.lock requirements.lock
RUN python -m venv --without-pip /venv && \
    pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.lock && \
    find /venv -type d -name tests -prune -exec rm -r {} +
COPY ladle ladle
COPY clients/__init__.py clients/
COPY clients/wire clients/wire
COPY serving serving
COPY --from=compiled /app/compiled/*.so serving/rest/json/compiled/
RUN rm -r requirements.lock ladle/models ladle/training && python -m compileall -q .

FROM python AS server
LABEL org.opencontainers.image.title="Ladle: model server" \
      org.opencontainers.image.description="TensorFlow Serving's protocol on ONNX Runtime, for CPUs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=server-build /venv /venv
COPY --from=server-build /app /app
USER 65532:65532
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=2m --retries=3 CMD ["healthy", "8501", "/v2/health/ready"]
ENTRYPOINT ["python", "-m", "ladle.serving", "--port=8500", "--rest_api_port=8501"]
CMD ["--repository=/models", "--enable_metrics"]


FROM python AS gateway-build
COPY requirements/gateway.lock requirements.lock
RUN python -m venv --without-pip /venv && \
    pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.lock && \
    find /venv -type d -name tests -prune -exec rm -r {} +
COPY ladle ladle
COPY clients clients
RUN rm -r requirements.lock ladle/models ladle/training ladle/serving && python -m compileall -q .

FROM python AS gateway
LABEL org.opencontainers.image.title="Ladle: gateway" \
      org.opencontainers.image.description="The web page and its JSON API in front of a model server" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=gateway-build /venv /venv
COPY --from=gateway-build /app /app
ENV LADLE_GATEWAY_REPOSITORY=/models
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m --retries=3 CMD ["healthy", "8080", "/healthz"]
# One process, because it counts the requests of each key. GUNICORN_CMD_ARGS takes more flags.
ENTRYPOINT ["gunicorn", "--bind=0.0.0.0:8080", "--worker-class=ladle.clients.web.worker.Worker", "--threads=16", \
            "--keep-alive=75", "--timeout=120", "--graceful-timeout=25", "--worker-tmp-dir=/dev/shm", "--no-control-socket", \
            "ladle.clients.web:create_app()"]


FROM python AS train
LABEL org.opencontainers.image.title="Ladle: training" \
      org.opencontainers.image.description="Trains the networks and exports them, with TensorFlow's CUDA packages" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY requirements/train.lock requirements.lock
RUN python -m venv --without-pip /venv && \
    pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.lock && \
    find /venv -type d -name tests -prune -exec rm -r {} +
COPY ladle ladle
COPY models models
COPY training training
COPY serving serving
COPY clients clients
# Mount the folder that it writes to: the repository, the runs, the data sets.
ENV PYTHONPATH=/app
WORKDIR /work
USER 65532:65532
ENTRYPOINT ["python", "-m", "ladle"]
CMD ["networks"]


# The last stage is what `docker build .` makes.
FROM tensorflow/serving:${TENSORFLOW_VERSION}${TENSORFLOW_SERVING_VARIANT} AS tensorflow-serving
LABEL org.opencontainers.image.title="Ladle: TensorFlow Serving" \
      org.opencontainers.image.description="TensorFlow Serving with the models of a repository that Ladle trained" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --chmod=555 deploy/tensorflow_serving/healthy.sh /usr/local/bin/healthy
COPY --chmod=555 deploy/tensorflow_serving/list_models.sh /usr/local/bin/list_models
# The brackets make the repository optional: a pattern may match nothing. Its own *.config files, which `ladle config` writes, replace
# ours. The mode lets the image's user read the models whatever their owner's umask was. A repository mounted at /models hides all this.
COPY --chmod=555 serving/config_writer/*.config model_repositor[y] /models/
RUN ["list_models", "/models"]
# A GPU that the image has no kernels for gets them compiled; /tmp is the only place that can be written.
ENV CUDA_CACHE_PATH=/tmp/cuda
USER 65532:65532
EXPOSE 8500 8501
# The ports open when every model is loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 CMD ["healthy", "8501", "/monitoring/prometheus/metrics"]
# The base image's entry point serves a single model, and its shell passes no signal on.
ENTRYPOINT ["tensorflow_model_server", "--port=8500", "--rest_api_port=8501"]
CMD ["--model_config_file=/models/models.config", "--model_config_file_poll_wait_seconds=10", \
     "--allow_version_labels_for_unavailable_models=true", "--monitoring_config_file=/models/monitoring.config", \
     "--enable_batching=true", "--batching_parameters_file=/models/batching.config", \
     "--enable_per_model_batching_parameters=true", "--enable_grpc_healthcheck_service=true"]
