#!/usr/bin/env bash
# Asks each part of the stack whether it is up and has data: a line each, ends with 1 at the first gap.
#
#   verify.sh                against Compose, from within its network: docker compose exec runs the questions
#   verify.sh --kubernetes   against a cluster: kubectl exec does
#   verify.sh --direct       against addresses in the environment (FLEET_URL, PROMETHEUS_URL, ...)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
mode=compose namespace=fleetmon
case "${1:-}" in
    "") ;;
    --kubernetes) mode=kubernetes namespace=${2:-fleetmon} ;;
    --direct) mode=direct ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "verify.sh: no option $1; there are --kubernetes and --direct" >&2; exit 2 ;;
esac

fetch() { # service, port, variable of the direct mode, path
    local url="http://$1:$2$4"
    case $mode in
        # Prometheus' image has wget and reaches every other part
        compose) docker compose -f "$here/compose.yaml" exec -T prometheus wget -qO- -T 10 "$url" ;;
        kubernetes) kubectl --namespace "$namespace" exec prometheus-0 -- wget -qO- -T 10 "$url" ;;
        direct) curl --silent --fail --max-time 10 "${!3%/}$4" ;;
    esac
}

check() { # what, service, port, variable, path, a pattern that must be in the answer
    local answer
    if [ "$mode" = direct ] && [ -z "${!4:-}" ]; then
        printf 'skipped  %s: %s is not set\n' "$1" "$4"
        return
    fi
    if ! answer=$(fetch "$2" "$3" "$4" "$5" 2>&1); then
        printf 'FAILED   %s: no answer from %s:%s%s\n' "$1" "$2" "$3" "$5"
        exit 1
    fi
    if ! grep -qE -- "$6" <<<"$answer"; then
        printf 'FAILED   %s: %s:%s%s answers, but nothing in it matches %s\n' "$1" "$2" "$3" "$5" "$6"
        exit 1
    fi
    printf 'ok       %s\n' "$1"
}

query() { # PromQL, percent-encoded
    printf '/api/v1/query?query=%s' "$1"
}

check "fleet: metrics" fleet 9003 FLEET_URL /metrics '^agents_health_status\{'
check "fleet: ready" fleet 9003 FLEET_URL /readyz 'ready'
check "Prometheus: ready" prometheus 9090 PROMETHEUS_URL /-/ready '[Rr]eady'
check "Prometheus: the fleet is scraped" prometheus 9090 PROMETHEUS_URL \
    "$(query 'sum%28up%7Bjob%3D%22fleet%22%7D%29')" '"value":\[[^]]*"[1-9]'
check "Prometheus: tasks are counted" prometheus 9090 PROMETHEUS_URL \
    "$(query 'sum%28agents_tasks_completed_total%29')" '"value":\[[^]]*"[1-9]'
check "Prometheus: rules are loaded" prometheus 9090 PROMETHEUS_URL /api/v1/rules '"name":"Watchdog"'
check "Alertmanager: ready" alertmanager 9093 ALERTMANAGER_URL /-/ready 'OK|[Rr]eady'
check "Grafana: well" grafana 3000 GRAFANA_URL /api/health '"database": *"ok"'
check "Collector: well" otel-collector 13133 COLLECTOR_URL / 'available|OK'
check "Jaeger: has services" jaeger 16686 JAEGER_URL /api/services '"data": *\["'
check "Loki: ready" loki 3100 LOKI_URL /ready 'ready'
