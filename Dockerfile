# The package and its command in a container.
#   docker build -t hf-localgan .
#   docker run --rm -v "$PWD/runs:/work/runs" hf-localgan train-mle --max_steps 200
# PyTorch comes as the default index has it. For another build, such as the small one for processors:
#   docker build --build-arg TORCH_INDEX=URL_OF_PYTORCHS_INDEX --build-arg TORCH_BUILD=+cpu -t hf-localgan .
FROM python:3.13-slim

ARG TORCH_INDEX=
ARG TORCH_BUILD=
WORKDIR /source
COPY constraints.txt hatch_build.py pyproject.toml README.md LICENSE ./
COPY hf_localgan ./hf_localgan
COPY recipes/smalltalk ./recipes/smalltalk
RUN version=$(sed -n 's/^torch==//p' constraints.txt) \
    && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch==${version}${TORCH_BUILD}" \
    && pip install --no-cache-dir --constraint constraints.txt ".[plots,speech]"

RUN useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
ENTRYPOINT ["hf-localgan"]
CMD ["--help"]
