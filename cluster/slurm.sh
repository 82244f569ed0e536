#!/bin/bash
# Slurm: a cluster for one sweep, in one job of three parts: a head, hosts for data, hosts for learners.
#
#   pip install -c constraints.txt '.[search]'     # into an environment on the shared disk, once
#   sbatch cluster/slurm.sh my.yaml tune --dataset /shared/data --output /shared/runs/my
#   squeue --me; tail -f prefrec-JOB.log           # the log of the sweep
#   scancel JOB                                    # ends everything; later: ... --output /shared/runs/my --resume
#
# Edit the partitions' counts, times and GPUs to those of your site.
#SBATCH --job-name=prefrec
#SBATCH --output=prefrec-%j.log
#SBATCH --time=12:00:00
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=4 --mem=16G
#SBATCH hetjob
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=16 --mem=64G
#SBATCH hetjob
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 --mem=32G --gres=gpu:1
set -euo pipefail

config=${1:?usage: sbatch slurm.sh CONFIG COMMAND [ARGUMENTS]}
command=${2:?usage: sbatch slurm.sh CONFIG COMMAND [ARGUMENTS]}
shift 2

# A token of this job, which only this user can read. It is removed after Ray has ended on all hosts.
folder=$HOME/.prefrec/$SLURM_JOB_ID
(umask 077 && mkdir -p "$folder" && openssl rand -hex 32 > "$folder/token")
end() {
    jobs -p | xargs -r kill 2> /dev/null || true
    wait
    rm -rf "$folder"
}
trap end EXIT
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token RAY_USAGE_STATS_ENABLED=0

# Other jobs may share a host: ports by the job's number.
port=$((20000 + SLURM_JOB_ID % 10000))
dashboard=$((30000 + SLURM_JOB_ID % 10000))
# The first of the names; all are read, since who closes a pipe early ends its writer, and with pipefail this script.
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST_HET_GROUP_0")
head=${hosts[0]:?scontrol named no host}

# on_host ARGUMENTS...: what a host runs: Ray in folders that nobody else can read or foresee, which go when it ends.
# Ray opens its own folders to all: they lie inside. Its sockets need a short path; what memory does not hold goes to the
# job's own disk, where the site has one.
on_host() {
    session=$(mktemp -d /tmp/prefrec-XXXXXXXX) && spill=$(mktemp -d "${SLURM_TMPDIR:-/tmp}/prefrec-XXXXXXXX") || exit
    trap 'rm -rf "$session" "$spill"' EXIT
    ray start --block --disable-usage-stats "--temp-dir=$session/r" "--object-spilling-directory=$spill/o" "$@" &
    trap 'kill $!' TERM INT
    wait $! || wait $!
}

# start GROUP BYTES ARGUMENTS...: Ray on the hosts of a part, with an object store of so many bytes.
start() {
    local group=$1 bytes=$2
    shift 2
    srun --het-group="$group" bash -c "$(declare -f on_host); on_host \"\$@\"" host --object-store-memory="$bytes" "$@" &
}

# No CPUs on the head, so that no task is placed there.
start 0 2000000000 --head --port="$port" --num-cpus=0 --dashboard-host=127.0.0.1 --dashboard-port="$dashboard"
export RAY_ADDRESS=$head:$port
for _ in $(seq 60); do
    ray health-check --address "$RAY_ADDRESS" 2> /dev/null && break
    sleep 2
done

start 1 16000000000 --address="$RAY_ADDRESS" --num-cpus=16 --resources='{"data": 16}'
# No CPUs here either: learners ask for "train" (resources: {cpus: 0, gpus: 0.25, custom: {train: 1}}).
start 2 8000000000 --address="$RAY_ADDRESS" --num-cpus=0 --resources='{"train": 4}'

# On the head's host, which this script runs on.
prefrec "$command" "$config" "$@"
