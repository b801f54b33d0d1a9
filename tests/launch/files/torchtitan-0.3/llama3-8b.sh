#!/usr/bin/bash
# Llama 3.1 8B with the runner of the repository.
set -ex
export LOGLEVEL=INFO
MODULE=llama3 CONFIG=llama3_8b NGPU=8 LOG_RANK=0 ./run_train.sh \
    --training.local_batch_size 2 \
    --training.steps=2000 \
    --compile.enable \
    --metrics.enable_wandb \
    --checkpoint.enable --checkpoint.interval 250 \
    "$@"
