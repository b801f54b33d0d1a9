"""Parts of a workload: what of the model is trained, and the documents of a sequence."""
