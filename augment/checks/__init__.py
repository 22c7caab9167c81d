"""What published data must satisfy: one file per gate."""
