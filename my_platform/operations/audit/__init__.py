"""Where time and money go, and how well what was promised is kept."""
