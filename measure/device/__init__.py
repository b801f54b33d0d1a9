"""The device at hand: which it is, its clocks and limits, and the machine around it."""
