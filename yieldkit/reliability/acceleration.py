"""How much faster parts age, or faults strike, under stress than in use.

=====================  =========================================  ==========================================
factor                 formula                                    source
=====================  =========================================  ==========================================
Arrhenius              exp(Ea/k (1/T_use - 1/T_stress))           NIST/SEMATECH e-Handbook 8.1.5.1, JESD91
voltage, exponential   exp(gamma (V_stress - V_use))              "E model" of oxide breakdown, JEP122
voltage, power law     (V_stress / V_use)^n                       inverse power law, e-Handbook 8.1.5.2, JEP122
=====================  =========================================  ==========================================

The factors of temperature and voltage multiply. Activation energies and exponents belong to a mechanism; none has a
default here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from yieldkit.errors import BadInput
from yieldkit.quantities import KELVIN_OFFSET

__all__ = [
    "BOLTZMANN_EV_PER_K",
    "arrhenius_factor",
    "arrhenius_factor_k",
    "voltage_exponential_factor",
    "voltage_power_factor",
]

BOLTZMANN_EV_PER_K: Final = 8.617333262e-5
"""CODATA 2018, exact in the SI but for the digits left out."""

Floats = NDArray[np.float64]


def arrhenius_factor(*, use_c: ArrayLike, stress_c: ArrayLike, ea_ev: ArrayLike) -> Floats:
    """Acceleration by temperature, in °C.

    Args:
        use_c: temperature in use, °C, array[...].
        stress_c: temperature under stress, °C, broadcast against it.
        ea_ev: activation energy, eV, broadcast too; 0 gives 1, a negative one (hot carriers) less than 1.

    Returns:
        hours in use that one hour under stress is worth, array[...]; below 1 where the stress is colder.

    Raises:
        BadInput: a temperature at or below absolute zero, or something that is not finite.
    """
    use, stress = _finite("use_c", use_c), _finite("stress_c", stress_c)
    return arrhenius_factor_k(use_k=use + KELVIN_OFFSET, stress_k=stress + KELVIN_OFFSET, ea_ev=ea_ev)


def arrhenius_factor_k(*, use_k: ArrayLike, stress_k: ArrayLike, ea_ev: ArrayLike) -> Floats:
    """As `arrhenius_factor`, with temperatures in kelvin."""
    use, stress, ea = _finite("use_k", use_k), _finite("stress_k", stress_k), _finite("ea_ev", ea_ev)
    for name, value in (("use", use), ("stress", stress)):
        if (value <= 0).any():
            raise BadInput(f"the {name} temperature must lie above absolute zero", value=float(value.min()))
    return np.exp(ea / BOLTZMANN_EV_PER_K * (1.0 / use - 1.0 / stress))


def voltage_exponential_factor(*, use_v: ArrayLike, stress_v: ArrayLike, per_volt: ArrayLike) -> Floats:
    """Acceleration by voltage, exp(per_volt (stress_v - use_v)).

    Args:
        use_v: volts in use, array[...].
        stress_v: volts under stress, broadcast against it.
        per_volt: gamma, 1/V; negative for what gets worse as the voltage falls (timing margins).

    Raises:
        BadInput: something is not finite.
    """
    use, stress = _finite("use_v", use_v), _finite("stress_v", stress_v)
    return np.exp(_finite("per_volt", per_volt) * (stress - use))


def voltage_power_factor(*, use_v: ArrayLike, stress_v: ArrayLike, exponent: ArrayLike) -> Floats:
    """Acceleration by voltage, (stress_v / use_v)^exponent.

    Raises:
        BadInput: a voltage is not positive, or something is not finite.
    """
    use, stress = _finite("use_v", use_v), _finite("stress_v", stress_v)
    for name, value in (("use_v", use), ("stress_v", stress)):
        if (value <= 0).any():
            raise BadInput(f"{name} must be positive", value=float(value.min()))
    return np.asarray((stress / use) ** _finite("exponent", exponent))


def _finite(name: str, value: ArrayLike) -> Floats:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be numbers", value=value) from error
    if not np.isfinite(array).all():
        raise BadInput(f"{name} must be finite", value=value)
    return array
