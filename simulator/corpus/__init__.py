"""Published runs: the schema they come in, the ones that are shipped, and the rules that make scenarios of them."""
