"""The sections of a configuration, and how they build the parts of a run."""
