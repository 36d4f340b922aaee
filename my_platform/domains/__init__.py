"""What a user replaces: one folder for each domain."""
