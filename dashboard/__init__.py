"""Show me: the what-if dashboard."""
