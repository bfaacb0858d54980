"""Every table and figure of the paper's experiments, run again, and what goes beyond them."""
