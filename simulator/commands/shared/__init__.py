"""What commands share: the command line itself, their options, and the line that shows progress."""
