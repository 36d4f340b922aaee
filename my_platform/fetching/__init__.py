"""Tables that are asked for: days of a database or of an HTTP API, landed as files like those of any other source."""
