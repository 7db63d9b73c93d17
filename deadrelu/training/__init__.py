"""What training makes of dead units: trials of remedies, with everything else equal."""
