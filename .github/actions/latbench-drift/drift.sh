#!/usr/bin/env bash
# Compare $BASELINE with $CURRENT: annotations to the log, Markdown to the job's summary, JUnit to $JUNIT.
# latbench is taken from the PATH (a runner beside a device has it), or installed from this checkout.
set -euo pipefail

if ! command -v latbench > /dev/null; then
  checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
  python3 -m venv "$RUNNER_TEMP/latbench"
  "$RUNNER_TEMP/latbench/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$checkout/constraints.txt" "$checkout"
  export PATH="$RUNNER_TEMP/latbench/bin:$PATH"
fi

complaints=$(mktemp)
trap 'rm -f "$complaints"' EXIT

strict=()
if [[ "${STRICT_LEVEL:-false}" == true ]]; then
  strict=(--strict-level)
fi

drift() {
  latbench drift --tolerance "$TOLERANCE" --level-tolerance "$LEVEL_TOLERANCE" "${strict[@]}" \
    --format "$1" -- "$BASELINE" "$CURRENT"
}

code=0
report=$(drift github 2> "$complaints") || code=$?
cat "$complaints" >&2
if [[ -n "$report" ]]; then
  echo "$report"
  # The same report in other words; its exit code is known.
  drift markdown >> "$GITHUB_STEP_SUMMARY" || true
  if [[ -n "$JUNIT" ]]; then
    mkdir -p "$(dirname "$JUNIT")"
    drift junit > "$JUNIT" || true
  fi
else
  # No report was made: what latbench said instead is the annotation.
  code=2
  said=$(cat "$complaints")
  said=${said//'%'/%25}
  said=${said//$'\r'/%0D}
  echo "::error title=latbench drift::${said//$'\n'/%0A}"
  { echo '### latbench drift: no report'; echo; sed 's/^/    /' "$complaints"; } >> "$GITHUB_STEP_SUMMARY"
fi

case $code in
  0) drifted=false ;;
  1) drifted=true ;;
  *) drifted= ;;
esac
{ echo "exit-code=$code"; echo "drifted=$drifted"; } >> "$GITHUB_OUTPUT"

if [[ $code -eq 1 && "$FAIL_ON_DRIFT" == false ]]; then
  exit 0
fi
exit "$code"
