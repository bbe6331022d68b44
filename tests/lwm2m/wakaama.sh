#!/usr/bin/env bash
# Configures and updates Eclipse Wakaama's client through a devnet of one validator and one gateway.
#   tests/lwm2m/wakaama.sh           build both, run, say how it went
#   WAKAAMA=folder tests/lwm2m/...   use this checkout of Wakaama, with its submodules
# Needs git, cmake and jq beside what scripts/setup installs. Its client's object 5 never leaves
# its first state; docs/examples/wakaama-object-5.patch makes it take a package and run version 2.0.0 then.
set -euo pipefail
cd "$(dirname "$0")/../.."

COMMIT=f91cfe0
CACHE=${LAMPLIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lamplighter}
LAMPLIGHTER=${LAMPLIGHTER:-$PWD/target/debug/lamplighter}
DEVICE=lamp-wakaama

say() { printf 'wakaama: %s\n' "$*"; }
fail() { printf 'wakaama: %s\n' "$*" >&2; exit 1; }

build_client() {
    client="$CACHE/wakaama-$COMMIT/lwm2mclient"
    [ ! -x "$client" ] || return 0
    local source=${WAKAAMA:-$work/wakaama}
    [ -n "${WAKAAMA:-}" ] || git clone --quiet --recursive \
        https://github.com/eclipse-wakaama/wakaama "$source"
    say "building the client of $source"
    mkdir -p "$work/source" "$CACHE/wakaama-$COMMIT"
    cp -a "$source/." "$work/source"
    git -C "$work/source" checkout --quiet "$COMMIT"
    git -C "$work/source" apply "$PWD/docs/examples/wakaama-object-5.patch"
    cmake -S "$work/source/examples/client/udp" -B "$work/build" -DWAKAAMA_UNIT_TESTS=OFF >"$work/cmake.log"
    cmake --build "$work/build" --target lwm2mclient >>"$work/cmake.log" 2>&1 ||
        { tail -n 20 "$work/cmake.log" >&2; fail "the client does not build"; }
    cp "$work/build/lwm2mclient" "$client"
}

# Waits until a command succeeds.
until_done() {
    local what=$1 tries; shift
    for tries in $(seq 240); do
        ! "$@" >"$work/last.log" 2>&1 || return 0
        sleep 0.5
    done
    tail -n 5 "$work/last.log" >&2
    fail "waited in vain for $what after $tries tries"
}

ledger() { "$LAMPLIGHTER" "$@"; }
is_state() { [ "$(ledger rollout show wakaama --json | jq -r ".. | .state? // empty" | grep -c "$1")" -gt 0 ]; }

start_devnet() {
    "$LAMPLIGHTER" devnet up --validators 1 --gateways 1 --things 1 --dir "$work/devnet" \
        >"$work/devnet.log" 2>&1 &
    running+=($!)
    export LAMPLIGHTER_PROFILE="$work/devnet/client.toml"
    until_done "the devnet" grep -q 'up until' "$work/devnet.log"
}

register_device() {
    ledger device list --gateway gateway-1 --json |
        jq "[.[0] | {device: \"$DEVICE\", owner, model, hardware_class, district, gateway, tags}]" \
            >"$work/devices.json"
    ledger device register "$work/devices.json"
    hardware_class=$(jq -r '.[0].hardware_class' "$work/devices.json")
}

# Its clock (object 3) and a value of its test object 31024, and another instance of that one. The
# devnet's document of the fleet is for our own Things.
configure() {
    cat >"$work/config.json" <<'END'
{"zone": "Europe/Berlin", "offset": "+02:00", "test": 42, "new": 7,
 "lwm2m": {"resources": {
    "/3/0/15": {"key": "/zone", "type": "string"},
    "/3/0/14": {"key": "/offset", "type": "string"},
    "/31024/10/1": {"key": "/test", "type": "integer"},
    "/31024/99/1": {"key": "/new", "type": "integer"}},
  "ignore": ["/dimming", "/heartbeat_s"]}}
END
    ledger config set --device "$DEVICE" "$work/config.json"
}
is_configured() { ledger config show "$DEVICE" --json | jq -e '.. | .in_sync? // empty' | grep -q true; }

roll_out() {
    head -c 30000 /dev/urandom >"$work/image.bin"
    ledger --as vendor firmware publish "$work/image.bin" --release wakaama-2.0.0 --version 2.0.0 \
        --hardware-class "$hardware_class" --security-counter 4
    ledger --as approver-1 firmware approve wakaama-2.0.0
    ledger --as approver-2 firmware approve wakaama-2.0.0
    ledger rollout plan wakaama --release wakaama-2.0.0 --device "$DEVICE"
    ledger --as approver-1 rollout approve wakaama
    ledger rollout start wakaama
}

work=$(mktemp -d)
running=()
# Only what was started here, by its process id.
trap '[ ${#running[@]} -eq 0 ] || kill "${running[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

[ -x "$LAMPLIGHTER" ] || cargo build --package lamplighter-cli
build_client
start_devnet
register_device
# Refused once, the client waits for a minute.
until_done "the gateway to know the device" grep -q "$DEVICE" "$work/devnet/gateway-1/devices.json"
south=$(sed -n 's|^ *gateway-1 *coap://||p' "$work/devnet.log")
[ -n "$south" ] || fail "the devnet does not name the gateway's address"
say "the client registers at $south"
# It reads commands, and must not see their end.
mkfifo "$work/commands"
exec 3<>"$work/commands"
"$client" -4 -n "$DEVICE" -h "${south%:*}" -p "${south##*:}" -l 0 >"$work/client.log" 2>&1 <&3 &
running+=($!)
configure
until_done "the configuration" is_configured
ledger config show "$DEVICE"
roll_out
until_done "the confirmation" is_state confirmed
ledger rollout show wakaama
say "confirmed"
