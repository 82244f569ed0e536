"""Time, memory and disk of a run on a cluster, from a calibration on one machine."""
