"""The operator: NLPModel and DevicePool in, Jobs and Triton servers out."""
