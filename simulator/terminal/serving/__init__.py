"""Tables about serving."""
