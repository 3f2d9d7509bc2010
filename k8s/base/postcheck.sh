#!/bin/sh
# Init container `postcheck`: did the migration hold? Where it did not, the app does not start on what it left, and this says why,
# each time it is asked: a receipt is used once. The way back is `litestream-sidecar rollback --receipt …`.
set -eu
state=$LITESTREAM_SIDECAR_STATE_DIR
receipt=$state/receipts/$REVISION.json
refusal=$receipt.refused
if [ -e "$refusal" ]; then
  cat "$refusal"
  exit 1
fi
if [ -e "$receipt" ]; then
  code=0
  litestream-sidecar postcheck --receipt "$receipt" --timeout 10m >"$receipt.said" 2>&1 || code=$?
  cat "$receipt.said"
  if [ "$code" = 1 ]; then
    mv "$receipt.said" "$refusal"
  fi
  [ "$code" = 0 ] || exit "$code"
  rm "$receipt.said"
  mv "$receipt" "$state/receipts/last.json"
fi
mkdir -p "$state"
echo "$REVISION" >"$state/deployed"
