# An image that `pyram-image app` made, served in a container: on the image that
# Containerfile makes or a release brings. The
# context is the directory of site.sqfs:
#
#   podman build --format docker -t my-site -f packaging/container/Containerfile.app .
#   podman run --rm -p 8000:8000 -e SECRET_KEY=... my-site
#
# It is unpacked once: most containers have no /dev/fuse, and each start would unpack it into RAM.
# Without --format docker podman leaves the HEALTHCHECK out: OCI's format has none.
ARG BASE=pyram
FROM $BASE

USER root
# One layer, without the packed image.
RUN --mount=type=bind,target=/context pyram-mount --extract /context/site.sqfs /srv/app \
 && mkdir /srv/state && chown app:app /srv/state
ENV STATE_DIRECTORY=/srv/state
ENV PORT=8000
USER app
WORKDIR /srv/state

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/srv/app/bin/pypy3", "-S", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=8); c.request('GET', '/-/ready'); sys.exit(c.getresponse().status != 200)"]
# Port and options are read when the container starts. /-/ready answers once it is warm.
CMD ["sh", "-c", "exec /srv/app/bin/pypy3 -m pyram_serve --bind 0.0.0.0:$PORT $PYRAM_SERVE_OPTIONS"]
