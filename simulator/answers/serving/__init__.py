"""What requests to a model meet, and what answering them costs."""
