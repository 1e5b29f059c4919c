"""Model versions: upload, training, activation, and what a model says of every row. Imports pools and below."""
