# bids_xai in a container. Build arguments:
#   BASE_IMAGE      Debian with or without Python 3.10 or newer, e.g. python:3.12-slim-bookworm
#   TORCH           cpu, or cuda for NVIDIA GPUs
#   WITH_FSL        1: FSL's programs for --preproc fsl (FSL's licence: non-commercial use; x86-64)
#   WITH_ANTS       1: the programs of ANTs; without them the same code inside antspyx serves (x86-64)
#   WITH_TEMPLATES  1: fetch TEMPLATES from TemplateFlow; three templates and ten atlases are always inside
#   TORCH_INDEX_URL where the CPU's build of torch comes from; empty: where pip looks anyway
#   VERSION         of the image, written into its labels and into the outputs
# buildah before 1.30 does not see the defaults of WITH_...: give all three.
ARG BASE_IMAGE=debian:bookworm-slim
ARG WITH_FSL=0
ARG WITH_ANTS=0
ARG WITH_TEMPLATES=1

FROM ${BASE_IMAGE} AS python
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Debian's mirrors keep one version of a package only, so that a pinned one is gone after the next update.
# hadolint ignore=DL3008
RUN command -v python3 > /dev/null || { \
        apt-get update && apt-get install -y --no-install-recommends python3 && \
        apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*; }
ENV LANG=C.UTF-8

FROM python AS requirements
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY pyproject.toml ./
# Dated back, so that what is installed below stays until a requirement changes.
RUN { sed -n '/^dependencies = \[/,/^\]/p' pyproject.toml; grep bids-validator-deno pyproject.toml; } | \
        grep -o '"[^"]*"' | tr -d '"' > requirements.txt && \
    grep '^torch[<>=]' requirements.txt > torch.txt && touch -d @0 requirements.txt torch.txt

FROM python AS dependencies
# hadolint ignore=DL3008
RUN python3 -c "import ensurepip" 2> /dev/null || { \
        apt-get update && apt-get install -y --no-install-recommends python3-venv && \
        rm -rf /var/lib/apt/lists/*; }
# pip stays outside of the environment that it fills.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/bids-xai
ENV PIP_PYTHON=/opt/bids-xai/bin/python PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PATH=/opt/bids-xai/bin:/opt/pip/bin:$PATH
WORKDIR /src
COPY --from=requirements /src/requirements.txt /src/torch.txt ./
COPY .ci/image.lock ./
ENV PIP_CONSTRAINT=/src/image.lock
ARG TORCH=cpu
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN case "$TORCH" in \
        cpu) PIP_INDEX_URL="$TORCH_INDEX_URL" pip install --no-cache-dir --requirement torch.txt ;; \
        cuda) pip install --no-cache-dir --requirement torch.txt ;; \
        *) echo "TORCH is '$TORCH'; expected cpu or cuda" >&2; exit 2 ;; \
    esac
# Without the libraries' tests, headers and test programs (330 MB), but with byte code, because a read-only
# file system cannot keep what is compiled at the start; a few files are for newer Pythons and cannot be compiled.
# torchvision would replace torch by a CUDA build of 6 GB: better no image than that one.
RUN pip install --no-cache-dir --requirement requirements.txt && \
    python -c "import importlib.util as i, torch; assert i.find_spec('torchvision') is None; \
assert (torch.version.cuda is not None) == ('$TORCH' == 'cuda'), f'torch for {torch.version.cuda}, not $TORCH'" && \
    for library in matplotlib mpl_toolkits networkx nibabel nilearn nipype nitransforms numba numpy pandas prov \
        scipy sklearn statsmodels sympy traits; do \
        find /opt/bids-xai/lib/python3*/site-packages/"$library" -type d -name tests -prune -exec rm -rf {} +; \
    done && \
    find /opt/bids-xai/lib/python3*/site-packages/torch -maxdepth 1 -type d \
        \( -name include -o -name test \) -exec rm -rf {} + && \
    find /opt/bids-xai/lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete && \
    find /opt/bids-xai -type d -name __pycache__ -prune -exec rm -rf {} + && \
    { python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/bids-xai/lib > /dev/null || true; } && \
    mkdir -p /opt/templateflow

FROM dependencies AS builder
COPY LICENSE README.md pyproject.toml ./
COPY bids_xai bids_xai
# The package is a layer of its own: a new version brings a few MB only.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . && \
    pip install --no-cache-dir --no-deps /wheels/*.whl && \
    python -m compileall -q --invalidation-mode unchecked-hash /opt/bids-xai/lib/python3*/site-packages/bids_xai && \
    mkdir /opt/package
WORKDIR /opt/bids-xai
RUN cp -r --parents bin/bids-xai* lib/python3*/site-packages/bids_xai* /opt/package

FROM dependencies AS templates-0

FROM builder AS templates-1
ARG TEMPLATES="MNI152Lin MNI152NLin2009cSym MNI152NLin6Sym"
ENV TEMPLATEFLOW_HOME=/opt/templateflow
# hadolint ignore=SC2086
RUN bids-xai-fetch $TEMPLATES && \
    find "$TEMPLATEFLOW_HOME" -type f -empty -delete && chmod -R a+rX "$TEMPLATEFLOW_HOME"

# hadolint ignore=DL3006
FROM templates-${WITH_TEMPLATES} AS templates

FROM python AS conda
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
ARG MICROMAMBA=2.3.3-0
ARG MICROMAMBA_SHA256=9496f94a8b78c536573c93d946ec9bba74bd9ff79ee55aaa4b546e30db8f511b
ADD https://github.com/mamba-org/micromamba-releases/releases/download/${MICROMAMBA}/micromamba-linux-64 \
    /usr/local/bin/micromamba
# What is fetched over conda's channels is checked by their indexes, by micromamba itself.
RUN echo "$MICROMAMBA_SHA256  /usr/local/bin/micromamba" | sha256sum --check - && \
    chmod a+rx /usr/local/bin/micromamba
ENV MAMBA_ROOT_PREFIX=/tmp/mamba

FROM python AS fsl-0
RUN mkdir -p /opt/fsl

FROM conda AS fsl-1
RUN micromamba create --yes --prefix /opt/fsl --channel-priority flexible \
        --channel https://fsl.fmrib.ox.ac.uk/fsldownloads/fslconda/public/ --channel conda-forge \
        fsl-avwutils=2209.3 fsl-base=2508.1 fsl-bet2=2111.8 fsl-fast4=2111.3 fsl-flirt=2111.4 fsl-mcflirt=2111.0 \
        fsl-miscmaths=2412.4 fsl-utils=2412.5 && \
    for program in bet convert_xfm flirt fslmaths mcflirt robustfov; do \
        test -x "/opt/fsl/bin/$program" || { echo "FSL's packages lack $program" >&2; exit 1; }; \
    done && \
    find /opt/fsl \( -name '*.a' -o -name __pycache__ -o -path /opt/fsl/include \) -prune -exec rm -rf {} +

# hadolint ignore=DL3006
FROM fsl-${WITH_FSL} AS fsl

FROM python AS ants-0
RUN mkdir -p /opt/ants

FROM conda AS ants-1
RUN micromamba create --yes --prefix /opt/ants --channel conda-forge ants=2.5.4 && \
    find /opt/ants \( -name '*.a' -o -path /opt/ants/include \) -prune -exec rm -rf {} +

# hadolint ignore=DL3006
FROM ants-${WITH_ANTS} AS ants

FROM python AS runtime
COPY --from=fsl /opt/fsl /opt/fsl
COPY --from=ants /opt/ants /opt/ants
COPY --from=dependencies /opt/bids-xai /opt/bids-xai
COPY --from=templates /opt/templateflow /opt/templateflow
COPY --from=builder /opt/package /opt/bids-xai
ENV PATH=/opt/bids-xai/bin:/usr/local/bin:/usr/bin:/bin:/opt/fsl/bin:/opt/ants/bin \
    FSLDIR=/opt/fsl FSLOUTPUTTYPE=NIFTI_GZ FSLMULTIFILEQUIT=TRUE \
    TEMPLATEFLOW_HOME=/opt/templateflow TEMPLATEFLOW_AUTOUPDATE=off \
    NIPYPE_NO_ET=1 NO_ET=1 DENO_NO_UPDATE_CHECK=1 PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1
RUN mkdir -p /usr/share/doc/bids-xai && python -m bids_xai.cli.notice > /usr/share/doc/bids-xai/NOTICE
# Whoever runs it, with or without an entry in /etc/passwd: all caches lie in HOME, the one place that can be
# written to. Apptainer names the user's own home instead.
ENV HOME=/tmp USER=bids-xai LOGNAME=bids-xai
ARG VERSION=0.1.0
ENV BIDS_XAI_CONTAINER=docker:bids-xai:${VERSION}
LABEL org.opencontainers.image.title="bids_xai" \
      org.opencontainers.image.description="From a BIDS dataset to thresholded maps of what a classifier used" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
WORKDIR /tmp
USER 1000:1000
ENTRYPOINT ["bids-xai"]
