"""Published runs and claims, and how predictions compare with them."""
