#!/usr/bin/env bash
# Watches a deployment after it went out, and undoes it by itself when it makes things worse.
#
#   rollout-guard.sh --prometheus http://prometheus:9090 --for 600
#
# Every --every seconds Prometheus is asked for the share of tasks that failed and for the burn rate of the error
# budget, both over five minutes. When either is above its limit --strikes times in a row, the Deployment is rolled
# back once. A Prometheus that does not answer proves nothing: it is said, and is no strike.
#
# Ends with 0 when the time passed without a rollback, with 1 after one, with 2 for wrong usage.
set -euo pipefail

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    cat <<'TEXT'
options:
  --prometheus URL     default: $PROMETHEUS_URL, else http://localhost:9090
  --job NAME           whose tasks (default: fleet)
  --errors RATIO       limit of the share of failed tasks (default: 0.05)
  --burn RATE          limit of the burn rate against 99 % (default: 14.4)
  --strikes N          default: 3
  --every SECONDS      default: 30
  --for SECONDS        how long to watch (default: 900)
  --deployment NAME, --namespace NAME, --dry-run   as fleet.sh
TEXT
}

fail() {
    echo "rollout-guard.sh: $1" >&2
    exit 2
}

prometheus=${PROMETHEUS_URL:-http://localhost:9090} job=fleet errors=0.05 burn=14.4
strikes=3 every=30 watch=900 passed=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --dry-run) passed+=("$1"); shift; continue ;;
    esac
    [ $# -ge 2 ] || fail "$1 wants a value, or is no option; see --help"
    case $1 in
        --prometheus) prometheus=${2%/} ;;
        --job) job=$2 ;;
        --errors) errors=$2 ;;
        --burn) burn=$2 ;;
        --strikes) strikes=$2 ;;
        --every) every=$2 ;;
        --for) watch=$2 ;;
        --deployment | --namespace) passed+=("$1" "$2") ;;
        *) fail "no option $1; see --help" ;;
    esac
    shift 2
done
for number in "$errors" "$burn" "$strikes" "$every" "$watch"; do
    [[ $number =~ ^[0-9]+([.][0-9]+)?$ ]] || fail "$number is not a number"
done
[[ $job =~ ^[A-Za-z0-9_.-]+$ ]] || fail "--job $job is no job's name"

done_="agents_tasks_completed_total{job=\"$job\""
bad="outcome=~\"failed|timed_out|dead_lettered\""
# as the alerts have it: what was cancelled is neither well nor badly done
counted="sum(rate($done_,outcome!=\"cancelled\"}[5m]))"
# where nothing has failed yet there is no series of failures
share="(sum(rate($done_,$bad}[5m])) or $counted * 0) / $counted"

ask() { # PromQL; prints a number, or nothing where there is no answer
    curl --silent --fail --max-time 10 --get --data-urlencode "query=$1" "$prometheus/api/v1/query" |
        sed -n 's/.*"value":\[[0-9.]*,"\([-+0-9.eE]*\)"\].*/\1/p' || true
}

above() { # number, limit
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 > b + 0) }'
}

count=0
until=$((SECONDS + ${watch%.*}))
while [ "$SECONDS" -lt "$until" ]; do
    now=$(ask "$share")
    if [ -z "$now" ]; then
        echo "no answer from $prometheus, or no tasks; not counted"
    else
        rate=$(awk -v x="$now" 'BEGIN { printf "%.2f", x / 0.01 }')
        if above "$now" "$errors" || above "$rate" "$burn"; then
            count=$((count + 1))
            echo "failed tasks $now, burn rate $rate: strike $count of $strikes"
        else
            count=0
            echo "failed tasks $now, burn rate $rate: well"
        fi
    fi
    if [ "$count" -ge "$strikes" ]; then
        echo "rolling back"
        "$(dirname "$0")/fleet.sh" rollback ${passed[@]+"${passed[@]}"}
        exit 1
    fi
    sleep "$every"
done
echo "watched for $watch s without a rollback"
