"""What can be bought: devices, systems, prices and their measured constants, each figure with its source."""
