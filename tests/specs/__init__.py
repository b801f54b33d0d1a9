"""Tests of what the user says: models, workloads and Hugging Face configurations."""
