"""What an answer is, and all that depends on it: one module per task behind one protocol. Imports checks and below."""
