"""Software by the names that people type: which stack prices each, and what is priced by none."""
