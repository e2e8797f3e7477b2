"""The networks, one file a family; :mod:`models.registry` knows them by name."""
