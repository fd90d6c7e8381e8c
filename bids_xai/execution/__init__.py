"""Where and how nodes run: plugins, batch systems, resources, locks, progress, interruption, graphs."""
