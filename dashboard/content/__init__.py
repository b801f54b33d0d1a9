"""What pages show, computed and put into words: no streamlit, no figures."""
