"""Makes the adapter and the verifier that nearhit serves. Not written yet."""
