"""Local and S3 places, Parquet tables with a contract, checkpoints, and the embedded S3 server."""

from wan_r1.storage.errors import StorageError

__all__ = ["StorageError"]
