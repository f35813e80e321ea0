"""Makes the data that the adapter and the verifier learn from. Training itself comes later."""
