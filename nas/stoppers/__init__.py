"""Stoppers decide from measurements whether a running trial should end early; one file each."""
