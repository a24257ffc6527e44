#!/usr/bin/env bash
# All that a GPU must show, in at most nine minutes on one H100-class card, with nothing to download. Wants the packages
# of .[trainer,metrics] and pytest with hypothesis, and this folder installed (offline: pip install --no-deps
# --no-build-isolation -e .):
#   benchmarks/gpu.sh [OUT.json]            benchmarks/gpu.sh --smoke [OUT.json]   (CPU, small: that it runs)
# One piece that fails or runs out of its time does not stop the others; the JSON says which did. MOST=300 before it gives
# all together 300 seconds: what does not fit is not begun.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
smoke=; [ "${1:-}" = --smoke ] && { smoke=1; shift; }
out=${1:-benchmarks/results/gpu${smoke:+-smoke}.json}
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
device=${smoke:+cpu}; device=${device:-cuda}

piece() { # NAME SECONDS COMMAND...: its output in NAME.log, what became of it in NAME.rc
    local name=$1 limit=$2 start=$SECONDS left=$((${MOST:-540} - SECONDS)); shift 2
    ((left < 10)) && { echo "124 0" >"$folder/$name.rc"; echo "no time left" >"$folder/$name.log"; return; }
    ((left < limit)) && limit=$left
    echo "== $name (at most $limit s)"
    timeout "$limit" "$@" >"$folder/$name.log" 2>&1; local rc=$?
    echo "$rc $((SECONDS - start))" >"$folder/$name.rc"
    tail -n 4 "$folder/$name.log"
}
made() { # the sample world's words, which an encoder is timed on; its pictures are not looked at
    "$python" -c "from pipeline.prepare_cli import main; main()" world --raw "$folder/world" --train "$1" --val 1 --image-size 32 >/dev/null
    echo "--turns $folder/world/visdial/visdial_1.0_train.json --captions $folder/world/annotations/captions_train.json"
}
module() { echo "$python -m benchmarks.$1 --device $device --out $folder/${2:-$1}.json"; }
# Compiling takes longer than measuring: apart, so that its time running out costs nothing else.
eager=(--contestant plain --contestant "ours, float32" --contestant "ours, tf32" --contestant "ours, bfloat16")
compiled=(--contestant plain --contestant "ours, bfloat16, compiled")
gpu_tests=$(grep -rl --include='test_*.py' 'mark.gpu' tests)  # alone: collecting all tests wants all packages

if [ "$smoke" ]; then
    piece tests       120 "$python" -m pytest -q -m gpu $gpu_tests
    piece train_step  120 $(module train_step) --case tiny:1:4 --rounds 1 --seconds 2
    piece stackgan_v2 120 $(module stackgan_v2_step) --case tiny:4 --rounds 1 --seconds 2
    piece attngan     120 $(module attngan_step) --case tiny:4 --rounds 1 --seconds 2
    piece films       120 $(module film_step) --batch 2 --turns 2 --runs 1
    piece graphs      120 $(module graph_step) --case tiny:4 --seconds 2
    piece feed        120 $(module feed) --seconds 2 --rounds 1 --batch 16 --images 64
    piece encode      120 $(module encode) $(made 16) --count 32 --captions-count 32 --runs 1 --no-peers
    piece to_colours  240 $(module to_colours) --smoke
else
    piece tests           30 "$python" -m pytest -q -m gpu $gpu_tests
    piece stage1          80 $(module train_step stage1) --case paper:1:128 "${eager[@]}" --rounds 3 --seconds 12 --feed
    piece stage2          80 $(module train_step stage2) --case paper:2:16 "${eager[@]}" --rounds 3 --seconds 12 --feed
    piece films           30 $(module film_step) --system geneva --preset geneva --runs 3
    piece graphs          50 $(module graph_step) --seconds 4
    piece feed            30 $(module feed) --seconds 12 --rounds 5
    piece encode          30 $(module encode) $(made 400) --count 4096 --runs 2 --no-peers
    piece to_colours     100 $(module to_colours) --every 16000 --most 48000
    piece stackgan_v2     60 $(module stackgan_v2_step) "${eager[@]}" --rounds 3 --seconds 8
    piece attngan         40 $(module attngan_step) "${eager[@]}" --rounds 3 --seconds 8
    piece compiled_stage1 40 $(module train_step compiled_stage1) --case paper:1:128 "${compiled[@]}" --rounds 3 --seconds 6
    piece compiled_stage2 40 $(module train_step compiled_stage2) --case paper:2:16 "${compiled[@]}" --rounds 3 --seconds 6
fi

"$python" - "$folder" "$out" <<'P'
import json, sys
from pathlib import Path
from store import machine

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
pieces = {}
for path in sorted(folder.glob("*.rc")):
    rc, seconds = map(int, path.read_text().split())
    said = path.with_suffix(".log").read_text(errors="replace").strip().splitlines()
    pieces[path.stem] = {"rc": rc, "seconds": seconds, "said": said[-40 if rc else -1 :]}
import torch
about = machine.describe() | {"torch": torch.__version__}
if torch.cuda.is_available():
    about |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps({"machine": about, "pieces": pieces, "figures": found}, indent=1) + "\n")
failed = [f"{name} ({piece['rc']})" for name, piece in pieces.items() if piece["rc"]]
print(f"{out}: {len(pieces) - len(failed)} of {len(pieces)} pieces done" + ("; not: " + ", ".join(failed) if failed else ""))
sys.exit(bool(failed))
P
