"""Training data: samples from decoded photographs."""
