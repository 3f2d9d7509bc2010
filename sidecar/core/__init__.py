"""The pure floor: facts, thresholds and decisions. No file, clock, process or network is touched here."""
