"""Hugging Face ``config.json`` files as models: a module for each kin of families, and where files are found."""
