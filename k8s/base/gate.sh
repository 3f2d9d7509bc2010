#!/bin/sh
# Init container `gate`: may this release migrate? Asked once for each revision of the StatefulSet. A Pod that is only moved or
# restarted has nothing to migrate: it must come up again, however old its backup is.
set -eu
state=$LITESTREAM_SIDECAR_STATE_DIR
receipt=$state/receipts/$REVISION.json
if [ ! -e "$DATABASE" ]; then
  echo "gate: $DATABASE is not there yet, so there is nothing to lose"
elif [ "$(cat "$state/deployed" 2>/dev/null)" = "$REVISION" ]; then
  echo "gate: $REVISION is deployed already"
elif [ -e "$receipt" ]; then
  echo "gate: $REVISION was let pass; its receipt is $receipt"
else
  mkdir -p "$state/receipts"
  exec litestream-sidecar gate app --receipt "$receipt" --timeout 10m
fi
