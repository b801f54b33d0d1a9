"""Tables of measured operators as other projects publish them."""
