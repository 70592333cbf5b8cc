"""Vocabulary of the whole library: errors, registry, seeding, shared types."""
