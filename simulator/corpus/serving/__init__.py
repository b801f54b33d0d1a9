"""Published runs of serving: their schema, those that are shipped, and the rules that make scenarios of them."""
