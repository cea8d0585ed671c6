#!/bin/bash
# A recipe on the machines of a Slurm cluster.  srun starts one process for each rank, nothing stands between.
#
#   sbatch --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 scripts/cluster/slurm.sh recipes/r1.toml --out DIR
#
# DIR is on a disk that all machines share.  Two minutes before its time is over the run saves, the job queues
# again and goes on from there; so it does where it is preempted, and after a fault, RESTARTS times.
#SBATCH --job-name=nomoat
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
export MASTER_ADDR MASTER_PORT
rank='RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS exec "$@"'
saved=75  # what a run gives back that was asked to stop, or has spent its budget
again=

trap 'again=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1  # to the ranks, not to this shell
trap 'RESTARTS=0' TERM  # cancelled; the ranks hear it, too

srun --wait=120 bash -c "$rank" rank "${PYTHON:-python}" -m nomoat run "$@" &
wait $!
code=$?
while kill -0 $! 2> /dev/null; do  # a signal ended the waiting, not the ranks
    wait $!
    code=$?
done
restart=${SLURM_RESTART_COUNT:-0}
case $code in
    0 | 2) ;;  # done, or an error in what was asked
    "$saved") scontrol show job "$SLURM_JOB_ID" | grep -q "PreemptTime=[0-9]" && again=yes ;;
    *) [ "$restart" -lt "${RESTARTS:-10}" ] && again=yes ;;  # a fault
esac
echo "ranks ended with $code, restart $restart, again: ${again:-no}"
if [ $again ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
