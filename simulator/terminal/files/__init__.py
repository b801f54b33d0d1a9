"""Files of one's own: their kinds, what each may say, and files to begin with."""
