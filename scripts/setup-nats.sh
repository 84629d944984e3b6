#!/usr/bin/env bash
# Finds or installs a NATS server: see setup-server.sh.
exec "$(dirname "${BASH_SOURCE[0]}")/setup-server.sh" NATS OMNIBASE_NATS_SERVER nats-server nats-server
