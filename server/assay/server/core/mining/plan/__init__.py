"""What a caller asks for: the terms of a plan, their checks, presets, and the binding to strategies."""
