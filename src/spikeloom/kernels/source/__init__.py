"""From a unit's traced equations to compiled source."""
