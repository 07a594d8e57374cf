#!/usr/bin/env bash
# Formats, lints, documentation, tests, licences and a smoke test of the benchmarks. Installs what it lacks.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

export INSTA_UPDATE=no
# Incremental files of a build that runs once are only in the way.
if [ -n "${CI:-}" ]; then export CARGO_INCREMENTAL=0; fi

step "tools"
command -v cargo >/dev/null || { echo "Rust is missing: install it from https://rustup.rs, then run this again." >&2; exit 1; }
if ! command -v git >/dev/null || ! command -v cc >/dev/null || ! command -v ssh >/dev/null || ! [ -x /usr/sbin/sshd ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq git gcc libc6-dev openssh-client openssh-server gnupg
    else
        echo "git, a C compiler, ssh and sshd are needed: install them, then run this again." >&2
        exit 1
    fi
fi
# The occurrences of schedules are compared with another implementation, over the same database of time zones.
if ! python3 -c 'import dateutil, zoneinfo' 2>/dev/null || [ ! -e /usr/share/zoneinfo/Europe/Amsterdam ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-dateutil tzdata
        # A python3 that is not the system's has packages of its own.
        python3 -c 'import dateutil' 2>/dev/null || python3 -m pip install --quiet python-dateutil
    else
        echo "python3 with dateutil, and tzdata, are needed: install python3-dateutil and tzdata, then run this again." >&2
        exit 1
    fi
fi
command -v strace >/dev/null || { [ "$(id -u)" = 0 ] && apt-get install -y -qq strace || true; }
# Where `python3` is a script that finds one, each start of it is a score of processes.
python="$(python3 -c 'import os, sys; print(os.path.dirname(sys.executable))')"
case ":$PATH:" in *":$python:"*) ;; *) export PATH="$python:$PATH" ;; esac
# A real broker for the tests of devices.
if ! PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto
    else
        echo "mosquitto is needed: install it, then run this again." >&2
        exit 1
    fi
fi
# A real PostgreSQL for the tests of the registry of a large fleet. They start their own: no cluster of the system.
if ! PATH="$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')" command -v initdb >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-common
        sed -ri 's/^#?(create_main_cluster) .*$/\1 = false/' /etc/postgresql-common/createcluster.conf
        apt-get install -y -qq --no-install-recommends postgresql
    else
        echo "PostgreSQL 14 or newer is needed: install postgresql, then run this again." >&2
        exit 1
    fi
fi
# The reference device in Python.
if ! python3 -c 'import paho.mqtt.client' 2>/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-paho-mqtt
        python3 -c 'import paho.mqtt.client' 2>/dev/null || python3 -m pip install --quiet 'paho-mqtt==1.6.1'
    else
        echo "paho-mqtt for python3 is needed: install python3-paho-mqtt, then run this again." >&2
        exit 1
    fi
fi
# Microsoft's clients for devices and back ends, at the gateway. Where they cannot be installed their tests are left out,
# and say so.
azure="$PWD/target/azure"
if ! "$azure/bin/python" -c 'import azure.iot.device, azure.iot.hub, six' 2>/dev/null; then
    python3 -m venv "$azure" 2>/dev/null || { [ "$(id -u)" = 0 ] && apt-get install -y -qq python3-venv && python3 -m venv "$azure"; } || true
    "$azure/bin/pip" install --quiet azure-iot-device==2.14.0 azure-iot-hub==2.7.0 six ||
        echo "the clients of IoT Hub in Python cannot be installed: their tests are left out."
fi
if "$azure/bin/python" -c 'import azure.iot.device, azure.iot.hub, six' 2>/dev/null; then
    export FLEETFORM_TEST_AZURE_PYTHON="$azure/bin/python"
fi
# The same in Node, where there is one.
if command -v npm >/dev/null; then
    if ! [ -d target/azure-node/node_modules/azure-iot-provisioning-device ]; then
        npm install --silent --no-audit --no-fund --prefix target/azure-node \
            azure-iothub@1.16.6 azure-iot-device@1.18.4 azure-iot-device-mqtt@1.16.4 \
            azure-iot-provisioning-device@1.9.1 azure-iot-provisioning-device-mqtt@1.8.1 \
            azure-iot-provisioning-device-http@1.9.1 azure-iot-security-symmetric-key@1.8.2 azure-iot-security-x509@1.7.12 ||
            echo "the clients of IoT Hub in Node cannot be installed: their tests are left out."
    fi
    if [ -d target/azure-node/node_modules/azure-iot-provisioning-device ]; then export FLEETFORM_TEST_AZURE_NODE="$PWD/target/azure-node"; fi
fi
# A browser for the pages, what drives it, and what finds barriers. Where they cannot be installed their test is left out.
web="$PWD/target/web"
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core; } ||
        echo "chromium cannot be installed: the test of the pages in a browser is left out."
fi
if ! "$web/bin/python" -c 'import selenium' 2>/dev/null; then
    { python3 -m venv "$web" && "$web/bin/pip" install --quiet selenium==4.51.0; } ||
        echo "selenium cannot be installed: the test of the pages in a browser is left out."
fi
if command -v npm >/dev/null && ! [ -f "$web-node/node_modules/axe-core/axe.min.js" ]; then
    npm install --silent --no-audit --no-fund --prefix "$web-node" axe-core@4.14.1 ||
        echo "axe-core cannot be installed: the test of the pages in a browser is left out."
fi
if command -v chromium >/dev/null && command -v chromedriver >/dev/null && "$web/bin/python" -c 'import selenium' 2>/dev/null &&
    [ -f "$web-node/node_modules/axe-core/axe.min.js" ]; then
    export FLEETFORM_TEST_BROWSER="$web/bin/python" FLEETFORM_TEST_AXE="$web-node/node_modules/axe-core/axe.min.js"
fi
# A provider of OpenID Connect for logins at the pages. Where it cannot be installed their tests are left out.
if command -v npm >/dev/null; then
    if ! [ -d target/oidc-node/node_modules/oidc-provider ]; then
        npm install --silent --no-audit --no-fund --prefix target/oidc-node oidc-provider@9.13.3 jose@6 ||
            echo "oidc-provider cannot be installed: the tests of logins by OpenID Connect are left out."
    fi
    if [ -d target/oidc-node/node_modules/oidc-provider ]; then export FLEETFORM_TEST_OIDC_NODE="$PWD/target/oidc-node"; fi
fi
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
# Not optimised: it is built in a minute, and runs once.
cargo deny --version >/dev/null 2>&1 || cargo install --locked --debug --quiet cargo-deny

step "format"
cargo fmt --check

step "lints"
cargo clippy --locked --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step "builds"
cargo test --locked --no-run
cargo bench --locked --profile dev --bench fleet --no-run

# What needs the processor: units, fuzzed inputs, the model, the simulation, kills, packages, benchmarks.
busy() {
    step "units, fuzzed inputs, the model and the simulation"
    # Fewer seeds than a developer has by default: the machine does other things, too.
    FLEETFORM_SIM_SEEDS="${FLEETFORM_SIM_SEEDS:-40}" cargo test --locked --lib --bins --test fuzz --test kill --test model --test sim
    cargo test --locked --doc

    step "kills at system calls, each fortieth"
    if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
        python3 tests/every_call.py "${CARGO_TARGET_DIR:-target}/debug/fleetform" --every 40
        python3 tests/every_call.py "${CARGO_TARGET_DIR:-target}/debug/fleetform" --every 40 --remote
    else
        echo "strace is missing or may not trace here: not run"
    fi

    step "packages, of the binary that was tested"
    if command -v dpkg-deb >/dev/null; then
        packaging/build.sh --binary "${CARGO_TARGET_DIR:-target}/debug/fleetform"
        packaging/check.sh
    else
        echo "dpkg-deb is missing: not run"
    fi

    step "benchmarks, as a smoke test"
    cargo bench --locked --profile dev --bench fleet -- --devices 2000
    cargo bench --locked --profile dev --bench fleet -- --postgres --devices 2000
    cargo bench --locked --profile dev --bench fleet -- --gateway --devices 200
}

# All other tests wait for processes and files most of the time. The busy ones run beside them, and give way.
busy_log="$(mktemp)"
set -m
(
    set -e
    renice -n 10 -p "$BASHPID" >/dev/null
    busy
) >"$busy_log" 2>&1 </dev/null &
busy_pid=$!
set +m
leave() {
    local status=$?
    kill -- -"$busy_pid" 2>/dev/null || true
    wait "$busy_pid" 2>/dev/null || true
    if [ "$status" != 0 ]; then cat "$busy_log"; fi
    rm -f "$busy_log"
}
trap leave EXIT

export RUST_TEST_THREADS="${RUST_TEST_THREADS:-8}"

step "tests, with registries in files"
noted="$(mktemp)"
FLEETFORM_TEST_NOTE="$noted" cargo test --locked --test it

# All of those again whose fleets have had a registry. What needs no registry, and what brings its own, ran already.
step "tests, with registries in PostgreSQL"
FLEETFORM_TEST_REGISTRY=postgres cargo test --locked --test it -- --exact $(sort -u "$noted")
rm -f "$noted"

step "what ran beside them"
wait "$busy_pid"
cat "$busy_log"

step "licences, bans and sources"
cargo deny check licenses bans sources

step "all of it passed"
