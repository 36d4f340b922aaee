"""Electricity demand by meter and hour, at midnight for the day that begins: a domain with a number to forecast, simulated."""

from my_platform.domains.demand.assets import assets, contenders
from my_platform.domains.demand.command_line import commands

__all__ = ["assets", "commands", "contenders"]
