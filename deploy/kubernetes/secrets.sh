#!/usr/bin/env bash
# Prints the Secrets that the manifests refer to, for `kubectl apply -f -`. Nothing is written to disk.
#
#   secrets.sh --demo               made-up values: alerts go nowhere, Grafana's password is random
#   secrets.sh --from DIRECTORY     from files in DIRECTORY, named as the keys below
set -euo pipefail

usage() {
  sed -n '2,6s/^# \{0,1\}//p' "$0"
}

encode() {
  base64 | tr -d '\n'
}

value() { # key, made-up value
  if [ -z "$directory" ]; then
    printf '%s' "$2" | encode
  elif [ -r "$directory/$1" ]; then
    # without the end of the line that an editor leaves: Grafana and S3 would take it for a part of the secret
    printf '%s' "$(<"$directory/$1")" | encode
  else
    echo "secrets.sh: $directory/$1 cannot be read; it holds the value of $1" >&2
    exit 1
  fi
}

secret() { # name, then key=made-up value ...
  local name=$1 pair
  shift
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: fleetmon\ntype: Opaque\ndata:\n' "$name"
  for pair in "$@"; do
    printf '  %s: ' "${pair%%=*}"
    value "${pair%%=*}" "${pair#*=}"
    echo
  done
}

directory=
case "${1:-}" in
  --demo) [ $# -eq 1 ] || { usage >&2; exit 2; } ;;
  --from)
    [ $# -eq 2 ] || { usage >&2; exit 2; }
    directory=$2
    ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

password=$(head -c 18 /dev/urandom | encode)
out=$(
  secret grafana-admin "password=$password"
  secret loki-s3 access-key-id=demo secret-access-key=demo
  secret alertmanager-secrets \
    slack_api_url=http://localhost:9/demo \
    pagerduty_routing_key=00000000000000000000000000000000 \
    smtp_password=demo \
    recovery_token="$password" \
    watchdog_token=demo
)
printf '%s\n' "$out"
[ -n "$directory" ] || echo "Grafana: admin / $password" >&2
