"""The commands of ``my-platform``, by what they are about."""
