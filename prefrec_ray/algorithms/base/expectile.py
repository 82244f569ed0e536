"""Settings of the methods that learn an expectile V: PrefRec and IQL."""

from __future__ import annotations

from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided

from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.errors import UserError


class ExpectileConfig(OfflineConfig):
    """`OfflineConfig` with `expectile` (the paper's tau, Eq. 9: at least 0.5, less than 1) and `value_lr`."""

    def training(self, *, expectile: float = NotProvided, value_lr: float = NotProvided, **kwargs: Any) -> Self:
        """Sets the two and those of `OfflineConfig.training`, whose recipe comes first."""
        super().training(**kwargs)
        own = {"expectile": expectile, "value_lr": value_lr}
        self._set({name: value for name, value in own.items() if value is not NotProvided})
        return self

    def validate(self) -> None:
        """As `OfflineConfig`'s, and the range of the expectile."""
        if not 0.5 <= self.expectile < 1:
            raise UserError(f"expectile: expected at least 0.5 and less than 1, found {self.expectile}")
        super().validate()
