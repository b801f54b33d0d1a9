"""A step that was measured: a trace of torch's profiler, its time by kind of work, and what was predicted of it."""
