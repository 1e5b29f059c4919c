"""Pure functions between wire messages and the domain's nouns, one module per proto.

What comes in is checked for its form: lengths, enums, names, tokens. What it means is checked by the domain.
"""
