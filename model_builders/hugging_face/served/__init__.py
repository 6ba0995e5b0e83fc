"""What is copied into every artifact and runs there alone, in Triton."""
