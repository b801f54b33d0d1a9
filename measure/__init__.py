"""What did happen: torch as an oracle of counts, and measurements on the local device."""
