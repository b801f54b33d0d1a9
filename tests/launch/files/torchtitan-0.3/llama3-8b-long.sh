NGPU=8
CP=4
SEQ=$((32*1024))
torchrun --standalone --nproc_per_node=${NGPU} -m torchtitan.train --module torchtitan.models.llama3 --config=llama3_8b \
  --training.seq_len ${SEQ} --parallelism.context_parallel_degree ${CP} --parallelism.tensor_parallel_degree 2 \
  --training.dtype bfloat16 --debug.deterministic --validator.no-enable activation-checkpoint:none
