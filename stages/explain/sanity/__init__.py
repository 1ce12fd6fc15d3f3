"""Whether maps depend on the network: maps of random weights beside the stored ones."""
