"""Tables and files on disk or S3: atomic writes, verified reads, landed files, retention."""
