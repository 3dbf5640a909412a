# One image for the web server, the workers and beat; docker-compose.yml says which command each runs.
FROM python:3.12-slim AS build
ARG MANABOORU_TORCH=cuda
ARG MANABOORU_TORCH_INDEX=
ENV XDG_CACHE_HOME=/opt UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY requirements/ requirements/
COPY gallery/__init__.py gallery/
COPY gallery/launch/__init__.py gallery/launch/bootstrap.py gallery/launch/dotenv.py gallery/launch/installing.py gallery/launch/processes.py gallery/launch/
# The same installation as `manage.py up` makes: pinned, hashed, for CUDA or CPU.
RUN python -c "from gallery.launch.bootstrap import install; install()"

FROM python:3.12-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 MANABOORU_DATA=/data HF_HUB_OFFLINE=1
RUN useradd --uid 1000 --create-home manabooru && install -d -o manabooru /data
COPY --from=build /opt/manabooru /opt/manabooru
RUN ln -s /opt/manabooru/venv-* /venv
COPY . /app
WORKDIR /app
USER manabooru
VOLUME /data
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--no-ws", "--host", "0.0.0.0", "--port", "8000", "gallery.wsgi:application"]
