"""What the domain asks of the outside: one protocol per need. Imports records and errors."""
