"""The commands of the command line, each in the module of its subject; `simulator.cli` runs them."""

from simulator.commands.shared.app import app

__all__ = ["app"]
