"""What several tables share."""
