"""Payment-card fraud: the shipped domain, and all that a user replaces."""

from my_platform.domains.fraud.assets import assets, contenders, document, logged, prepare
from my_platform.domains.fraud.command_line import commands
from my_platform.domains.fraud.service import services

__all__ = ["assets", "commands", "contenders", "document", "logged", "prepare", "services"]
