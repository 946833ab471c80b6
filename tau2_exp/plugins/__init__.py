"""What a user brings: named by a dotted path in the configuration, imported here and nowhere else."""

from tau2_exp.plugins.doors import DOORS, is_path, named
from tau2_exp.plugins.loading import PluginError, call, in_one_line, load, make
from tau2_exp.plugins.packages import conf_folders
from tau2_exp.plugins.source import Plugin, plugin_of, reach, reach_unchanged

__all__ = [
    "DOORS",
    "Plugin",
    "PluginError",
    "call",
    "conf_folders",
    "in_one_line",
    "is_path",
    "load",
    "make",
    "named",
    "plugin_of",
    "reach",
    "reach_unchanged",
]
