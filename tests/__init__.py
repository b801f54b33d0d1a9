"""Tests of capsim."""
