"""Plug-ins for prefrec_ray: a method, a reader, a teacher, a world and submissions to the bench."""
