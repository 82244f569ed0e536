"""Names of the laws in data sets of earlier commits."""

from prefrec_ray.bench import laws

__path__ = laws.__path__
