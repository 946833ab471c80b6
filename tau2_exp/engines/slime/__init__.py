"""The slime engine: the plan of its commands, the hooks that slime imports, and the cluster that it runs on."""
