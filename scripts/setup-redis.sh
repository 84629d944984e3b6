#!/usr/bin/env bash
# Finds or installs a Redis server: see setup-server.sh.
exec "$(dirname "${BASH_SOURCE[0]}")/setup-server.sh" Redis OMNIBASE_REDIS_SERVER redis-server redis-server
