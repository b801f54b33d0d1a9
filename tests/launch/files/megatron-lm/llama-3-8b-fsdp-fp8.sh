#!/bin/bash
# Llama 3 8B with Megatron-FSDP in fp8 on one node.
export CUDA_DEVICE_MAX_CONNECTIONS=8
export NVTE_FWD_LAYERNORM_SM_MARGIN=16

DTYPE=${DTYPE:-fp8}
NODES=1
LAYERS=32
CKPT=$(dirname "$0")/checkpoints

cat <<EOF > "$CKPT/notes.txt"
Llama 3 8B, $DTYPE, Megatron-FSDP: --num-layers and others below
EOF

ARGS=(
    --use-mcore-models --num-layers $LAYERS --hidden-size 4096 --ffn-hidden-size 14336
    --num-attention-heads 32 --group-query-attention --num-query-groups 8 --kv-channels 128
    --seq-length 8192 --max-position-embeddings 8192 --position-embedding-type rope --rotary-base 500000
    --rotary-percent 1.0 --swiglu --normalization RMSNorm --disable-bias-linear
    --untie-embeddings-and-output-weights --attention-dropout 0.0 --hidden-dropout 0.0
    --micro-batch-size 1 --global-batch-size 128 --train-iters 2000
    --lr 0.00015 --min-lr 0.00001 --lr-decay-style cosine --weight-decay 0.1 --clip-grad 1.0
    --bf16 --grad-reduce-in-bf16 --cross-entropy-loss-fusion --calculate-per-token-loss
    --manual-gc --empty-unused-memory-level 1
    --tensor-model-parallel-size 2 --sequence-parallel
    --use-megatron-fsdp --data-parallel-sharding-strategy optim_grads_params
    --no-gradient-accumulation-fusion --use-distributed-optimizer --ckpt-format fsdp_dtensor
    --recompute-granularity selective --recompute-modules core_attn mlp
    --mock-data --tokenizer-type NullTokenizer --vocab-size 128255
    --log-interval 1 --log-throughput --eval-iters 0 --save "$CKPT"
)
if [[ "$DTYPE" == "fp8" ]]; then
    ARGS+=(--fp8-format hybrid --fp8-recipe tensorwise --fp8-param-gather --first-last-layers-bf16)
fi

torchrun --standalone --nproc_per_node=8 --nnodes=$NODES pretrain_gpt.py "${ARGS[@]}"
