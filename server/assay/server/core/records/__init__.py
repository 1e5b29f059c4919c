"""The nouns that ports and services speak of, all immutable. Imports numpy only."""
