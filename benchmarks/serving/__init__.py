"""Text to vector over the network: what we serve beside what people would otherwise use."""
