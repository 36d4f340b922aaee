"""Features: declared once as data, compiled for bulk tables and for serving."""
