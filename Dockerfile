# CPU alone. docker run --read-only --tmpfs /tmp -v cases:/cases -v weights:/weights:ro -e UNMASKED_TOKEN -p 127.0.0.1:8000:8000 …
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 unmasked && mkdir /app /cases && chown unmasked /app /cases
COPY --chown=unmasked . /src
USER unmasked
RUN cp -r /src /tmp/src && /tmp/src/docker/install.sh /app/env && rm -rf /tmp/src
ENV PATH=/app/env/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib HOME=/tmp PYTHONDONTWRITEBYTECODE=1
VOLUME ["/cases"]
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["unmasked", "serve", "host=0.0.0.0", "out=/cases"]
CMD ["checkpoint=/weights"]
