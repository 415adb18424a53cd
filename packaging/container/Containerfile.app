# An image that `pyram-image app` made, served in a container: on the image that Containerfile makes. The
# context is the directory of site.sqfs:
#
#   podman build -t my-site -f packaging/container/Containerfile.app .
#   podman run --rm -p 8000:8000 -e SECRET_KEY=... my-site
#
# It is unpacked once: most containers have no /dev/fuse, and each start would unpack it into RAM.
FROM pyram

USER root
COPY site.sqfs /tmp/
RUN pyram-mount --extract /tmp/site.sqfs /srv/app && rm /tmp/site.sqfs
RUN mkdir /srv/state && chown app:app /srv/state
ENV STATE_DIRECTORY=/srv/state
USER app
WORKDIR /srv/state

EXPOSE 8000
# Port and options are read when the container starts. /-/ready answers once it is warm.
CMD ["sh", "-c", "exec /srv/app/bin/pypy3 -m pyram_serve --bind 0.0.0.0:${PORT:-8000} $PYRAM_SERVE_OPTIONS"]
