"""Records: what one machine measured, on disk and as columns of numbers."""
