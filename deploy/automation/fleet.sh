#!/usr/bin/env bash
# By hand what the cluster otherwise does by itself: scale, restart, roll back the fleet's Deployment.
#
#   fleet.sh scale 4        that many replicas; the autoscaler takes over again when it next decides
#   fleet.sh restart        one pod after another, each drained before it ends
#   fleet.sh rollback       the revision before this one
#   fleet.sh status         what runs, and whether it is ready
#
# Doing it twice does it once: what is already so is said and left alone.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: fleet.sh scale REPLICAS | restart | rollback | status
                [--deployment NAME] [--namespace NAME] [--timeout SECONDS] [--dry-run]

  --deployment NAME  default: fleet
  --namespace NAME   default: fleetmon
  --timeout SECONDS  to wait for the rollout (default: 300)
  --dry-run          say what would be done, and do nothing
TEXT
}

fail() {
    echo "fleet.sh: $1" >&2
    exit 2
}

deployment=fleet namespace=fleetmon timeout=300 dry="" words=()
while [ $# -gt 0 ]; do
    case $1 in
        --deployment | --namespace | --timeout)
            [ $# -ge 2 ] || fail "$1 wants a value"
            case $1 in
                --deployment) deployment=$2 ;;
                --namespace) namespace=$2 ;;
                --timeout) timeout=$2 ;;
            esac
            shift
            ;;
        --dry-run) dry=1 ;;
        -h | --help) usage; exit 0 ;;
        -*) fail "no option $1; see --help" ;;
        *) words+=("$1") ;;
    esac
    shift
done
[[ $timeout =~ ^[1-9][0-9]*$ ]] || fail "--timeout $timeout is not a number of seconds"

kube() {
    kubectl --namespace "$namespace" "$@"
}

change() {
    if [ -n "$dry" ]; then
        echo "would run: kubectl --namespace $namespace $*"
    else
        kube "$@"
    fi
}

settle() {
    [ -n "$dry" ] || kube rollout status "deployment/$deployment" --timeout "${timeout}s"
}

case ${words[0]:-} in
    scale)
        [[ ${words[1]:-} =~ ^[0-9]+$ ]] || fail "scale wants a number of replicas"
        now=$(kube get "deployment/$deployment" --output 'jsonpath={.spec.replicas}')
        if [ "$now" = "${words[1]}" ]; then
            echo "$deployment has $now replicas already"
        else
            change scale "deployment/$deployment" --replicas "${words[1]}"
            settle
        fi
        ;;
    restart)
        change rollout restart "deployment/$deployment"
        settle
        ;;
    rollback)
        change rollout undo "deployment/$deployment"
        settle
        ;;
    status)
        kube rollout status "deployment/$deployment" --watch=false
        kube get pods --selector "app.kubernetes.io/name=$deployment"
        ;;
    "")
        usage >&2
        exit 2
        ;;
    *) fail "no command ${words[0]}; there are scale, restart, rollback and status" ;;
esac
