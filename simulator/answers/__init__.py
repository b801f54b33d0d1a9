"""Answers to one scenario: estimate, long run, advice, roofline, stages, claims, and the basis of an estimate."""
