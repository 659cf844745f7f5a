"""The curation policy: pure functions from scores and votes to decisions."""
