"""Payment-card fraud: the shipped domain, and all that a user replaces."""

from my_platform.domains.fraud.assets import assets, contenders, document, prepare

__all__ = ["assets", "contenders", "document", "prepare"]
