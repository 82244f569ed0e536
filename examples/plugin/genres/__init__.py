"""Plug-ins for prefrec_ray: a method, a reader, a teacher and a world."""
