#!/bin/bash
# Pipeline of 16 stages, two chunks each, beside tensor parallelism of the configuration.
PP=16
ARGS=(
    --module llama3
    --config llama3_405b
    --parallelism.pipeline_parallel_degree $PP
    --parallelism.pipeline_parallel_schedule Interleaved1F1B
    --parallelism.pipeline_parallel_first_stage_less_layers 1
    --parallelism.pipeline_parallel_last_stage_less_layers 1
    --parallelism.data_parallel_shard_degree 4
    --training.local_batch_size 32
    --training.disable_cuda_graphs
    --dump_folder /scratch/out
)
torchrun --nproc_per_node=8 --nnodes=64 --rdzv_backend c10d --rdzv_endpoint="$HEAD:29500" \
    --local-ranks-filter 0 --role rank --tee 3 \
    -m torchtitan.train "${ARGS[@]}" activation-checkpoint:full
