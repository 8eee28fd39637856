#!/usr/bin/env bash
# Runs a command with a limit on its memory that the system enforces, page cache included:
#
#     benches/limited.sh 1536 target/release/bench-memory target/bench-models 7b Q4_K 704 128 1400
#
# The first word is the limit in MiB. Needs root and control groups, version 1 or 2.
set -euo pipefail
limit=$1
shift
root=/sys/fs/cgroup
if [ -d "$root/memory" ]; then
    group=$root/memory/graft-$$
    limit_file=memory.limit_in_bytes peak_file=memory.max_usage_in_bytes
else
    group=$root/graft-$$
    limit_file=memory.max peak_file=memory.peak
fi
mkdir "$group"
echo $((limit << 20)) >"$group/$limit_file"
status=0
(
    echo "$BASHPID" >"$group/cgroup.procs"
    exec "$@"
) || status=$?
if [ -r "$group/$peak_file" ]; then
    echo "most memory in use, page cache included: $(($(<"$group/$peak_file") >> 20)) of $limit MiB"
fi
rmdir "$group"
exit "$status"
