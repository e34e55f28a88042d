#!/usr/bin/env bash
# All that needs a GPU, within six minutes on a bare machine that has Python and PyTorch: the tests, then the timings.
#
#     benchmarks/gpu.sh [DEVICE [OPTIONS OF benchmarks.gpu ...]]
#
# Nothing of PyTorch is replaced. It goes on after what fails, prints one table at the end, and leaves
# benchmarks/results/gpu.json and gpu.log. To see that it works, without a GPU:
#
#     benchmarks/gpu.sh cpu --size 64 --channels 4 --batches 1 --rounds 1 --methods ugatit drit
set -uo pipefail
cd "$(dirname "$0")/.."
device=${1:-cuda}
shift || true
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 UGATIT_TEST_DEVICE=$device PYTHONPATH=$PWD
mkdir -p benchmarks/results
log=benchmarks/results/gpu.log

part() { # NAME SECONDS COMMAND...: one part, with its own limit
    echo "== $1 =="
    timeout -k 5 "$2" "${@:3}" || echo "== $1: failed or out of time (status $?)"
}

missing() { # packages that are imported and not there
    "$python" - <<'PY'
import importlib.util
modules = {"PIL": "pillow", "huggingface_hub": "huggingface-hub", "tomli_w": "tomli-w", "yaml": "pyyaml"}
wanted = ["numpy", "typer", "rich", "PIL", "huggingface_hub", "safetensors", "cmap", "filelock", "tomli_w", "jinja2"]
wanted += ["yaml", "pytest", "hypothesis"]
print(*(modules.get(one, one) for one in wanted if importlib.util.find_spec(one) is None))
PY
}

{
    command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
    read -r -a packages <<<"$(missing)"
    if [ ${#packages[@]} -gt 0 ]; then
        # Wheels that were brought along, where nothing can be fetched: WHEELS=folder.
        part install 60 "$python" -m pip install -q --no-deps ${WHEELS:+--no-index --find-links "$WHEELS"} "${packages[@]}"
    fi
    part tests 120 "$python" -m pytest -q -p no:cacheprovider -m gpu tests
    part timings 230 "$python" -m benchmarks.gpu --device "$device" "$@"
} 2>&1 | tee "$log"
