#!/usr/bin/env bash
# Silence alerts for a while: planned work that is not in the weekly maintenance window.
#
#   silence.sh --for 2h --comment "upgrade of the vault" 'alertname=~"Sigmavault.*"'
#   silence.sh --end 'alertname=~"Sigmavault.*"'
#
# Matchers are Alertmanager's; several narrow it down. Asked twice, it silences once: the same
# matchers extend nothing and add nothing while their silence lasts. Needs amtool.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: silence.sh --for DURATION --comment TEXT [--url URL] [--author NAME] [--dry-run] MATCHER...
       silence.sh --end [--url URL] [--dry-run] MATCHER...

  --for DURATION  how long from now, such as 30m or 2h
  --comment TEXT  why; whoever misses the alerts will read it
  --end           end it now
  --url URL       Alertmanager (default: $ALERTMANAGER_URL, else http://localhost:9093)
  --author NAME   default: this user
  --dry-run       say what would be done, and do nothing
TEXT
}

fail() {
    echo "silence.sh: $1" >&2
    exit 2
}

for="" comment="" end="" dry="" matchers=()
url=${ALERTMANAGER_URL:-http://localhost:9093}
author=${USER:-$(id -un)}
while [ $# -gt 0 ]; do
    case $1 in
        --for | --comment | --url | --author)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case $1 in
                --for) for=$2 ;;
                --comment) comment=$2 ;;
                --url) url=$2 ;;
                --author) author=$2 ;;
            esac
            shift 2
            ;;
        --end) end=yes && shift ;;
        --dry-run) dry=yes && shift ;;
        --help | -h) usage && exit 0 ;;
        -*) fail "$1 is no option (see silence.sh --help)" ;;
        *) matchers+=("$1") && shift ;;
    esac
done
[ ${#matchers[@]} -gt 0 ] || fail "say what to silence, such as alertname=ServiceDown"
if [ -z "$end" ]; then
    [ -n "$for" ] || fail "say for how long, such as --for 2h"
    [ -n "$comment" ] || fail "say why, with --comment"
fi
command -v amtool >/dev/null || fail "amtool is needed (Debian: prometheus-alertmanager)"

# The same matchers, in whatever order, have the same key; it stands in the comment.
key=$(printf '%s\n' "${matchers[@]}" | sort | cksum | tr ' ' '-')

# Prints the ids of silences of ours that last.
ours() {
    amtool --alertmanager.url="$url" silence query --output=json |
        sed 's/"id":/\n"id":/g' | grep -F "[$key]" | sed -n 's/^"id":"\([^"]*\)".*/\1/p'
}

# Not in a pipeline: an Alertmanager that does not answer must end this script.
found=$(amtool --alertmanager.url="$url" silence query --quiet >/dev/null && { ours || true; }) || exit 1

if [ -n "$end" ]; then
    if [ -z "$found" ]; then
        echo "nothing to end: no silence of this script has these matchers"
    elif [ -n "$dry" ]; then
        echo "would end: $found"
    else
        # shellcheck disable=SC2086  # one id a word
        amtool --alertmanager.url="$url" silence expire $found
        echo "ended: $found"
    fi
elif [ -n "$found" ]; then
    echo "already silenced: $found"
elif [ -n "$dry" ]; then
    echo "would silence for $for: ${matchers[*]} ($comment)"
else
    id=$(amtool --alertmanager.url="$url" silence add --duration="$for" --author="$author" \
        --comment="$comment [$key]" "${matchers[@]}")
    echo "silenced for $for: $id"
fi
