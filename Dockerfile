# aqa on a CPU: docker build --tag aqa .
# Versions are those of requirements.txt, which the tests run with. docs/installing.md says how to use the image.
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
RUN python -m venv /opt/aqa
WORKDIR /src
COPY requirements.txt ./
# torch by itself, from the index of builds without CUDA, which are far smaller.
RUN /opt/aqa/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' requirements.txt)"
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE ./
COPY aqa ./aqa
COPY data_prep ./data_prep
ARG EXTRAS=table
RUN /opt/aqa/bin/pip install --no-cache-dir "$(grep '^setuptools==' requirements.txt)" \
    && /opt/aqa/bin/pip install --no-cache-dir --no-build-isolation --constraint requirements.txt ".[${EXTRAS}]" \
    && /opt/aqa/bin/pip check

FROM python:${PYTHON}
COPY --from=build /opt/aqa /opt/aqa
RUN useradd --create-home --uid 1000 aqa && install --directory --owner aqa --group aqa /work
# With `--user` the container has a user without a name or a home: what asks for them finds these.
ENV PATH=/opt/aqa/bin:$PATH USER=aqa MPLCONFIGDIR=/tmp/matplotlib
USER aqa
WORKDIR /work
ENTRYPOINT ["aqa"]
CMD ["--help"]
