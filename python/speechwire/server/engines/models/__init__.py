"""Larger models for the local engine, each behind an extra of its own; nothing here is downloaded while it serves."""
