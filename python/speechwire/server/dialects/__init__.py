"""Wire languages in front of the engines."""
