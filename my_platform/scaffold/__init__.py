"""From sample files to a domain: what their columns are, the package that says so, and the days that they land as."""
