"""Necks: a backbone's levels `C*` become a head's levels `P*`, each with what the others know."""
