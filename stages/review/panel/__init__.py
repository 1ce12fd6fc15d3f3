"""What the panel beside a sample shows."""
