//! Links, addresses, routes and neighbours.
