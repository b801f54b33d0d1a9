"""What can be chosen on a page, and the link that says it: no streamlit."""
