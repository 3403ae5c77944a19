"""Design the resampler's kernels and print them as the tables of `src/resample/kernel.rs`.

A kernel is an even function of continuous time with the support |t| < T/2, where t counts samples of the lower of the
two rates. It is written as a cosine series, h(t) = c_0 + sum of c_k cos(2 pi k t / T), so that one short table serves
every pair of rates. Its spectrum is a sum of shifted sinc functions, linear in the coefficients, and the smallest
stopband for a given passband ripple is therefore a linear program.

Run it with `python kernel.py > tables.txt`; it needs numpy and scipy. The figures go to standard error.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Specification:
    """What one quality asks for; band edges are fractions of the lower Nyquist frequency."""

    name: str
    num_taps: int
    passband: float
    stopband: float
    ripple_db: float
    """At the edge of the passband."""
    fine_ripple_db: float
    """Up to `fine_edge`; from there it grows to `ripple_db`. Speech has its energy where the ripple is fine, and far
    from the transition band a fine ripple costs little."""
    fine_edge: float
    tenth_db_edge: float | None
    """Where the gain is -0.1 dB at the lowest."""
    num_cosines: int
    slope: tuple[float, float, float]
    """How many dB better the stopband becomes between which two frequencies.

    The images of low frequencies, where most of the energy of speech is, lie around 2 lower Nyquists.
    """
    end: float = 0.0
    """The largest value at both ends. A small jump buys 1 dB, and costs the steeper fall behind the first images."""


# The short ones are for rates around 22.05 kHz, where 94 and 46 samples take more than 2.0 and 1.0 ms.
SPECIFICATIONS = (
    Specification("BALANCED", 94, 0.90, 1.00, 0.0193, 0.003, 0.6, 0.9055, num_cosines=90, slope=(30, 1.3, 1.8)),
    Specification("LOW_LATENCY", 46, 0.90, 1.10, 0.0193, 0.006, 0.6, 0.9055, num_cosines=46, slope=(30, 1.3, 1.8)),
    Specification("BALANCED_SHORT", 88, 0.90, 1.00, 0.0197, 0.0097, 0.47, None, 88, (12, 1.9, 2.15), end=2.5e-5),
    Specification("LOW_LATENCY_SHORT", 44, 0.90, 1.10, 0.0195, 0.008, 0.5, None, 44, (8, 1.6, 1.88), end=1.8e-5),
    Specification("HIGH", 158, 0.93, 1.00, 0.0122, 0.006, 0.6, 0.9312, num_cosines=120, slope=(12, 1.2, 1.8)),
)
GRID_PER_LOBE = 12


def spectrum(num_taps: int, num_cosines: int, frequencies: Float) -> Float:
    """Return the matrix that maps coefficients to the spectrum; frequencies in lower Nyquist units."""
    cycles = frequencies[:, None] * num_taps / 2
    k = np.arange(num_cosines)[None, :]
    return num_taps * 0.5 * (np.sinc(cycles - k) + np.sinc(cycles + k))


def band(low: float, high: float, num_taps: int) -> Float:
    """Return a grid over one band with a fixed number of points per lobe of the spectrum."""
    return np.linspace(low, high, int((high - low) * num_taps / 2 * GRID_PER_LOBE) + 2)


def design(spec: Specification) -> Float:
    """Return the coefficients with the smallest stopband that keep the passband ripple."""
    far = 2 * (spec.num_cosines + 8) / spec.num_taps if spec.end == 0.0 else 10
    pass_grid = band(0, spec.passband, spec.num_taps)
    pass_matrix = spectrum(spec.num_taps, spec.num_cosines, pass_grid)
    # The solver works to an absolute tolerance, so the stopband is expressed in units near its own size.
    stop_grid = band(spec.stopband, far, spec.num_taps)
    slope_db, slope_start, slope_stop = spec.slope
    scale_db = 120 + slope_db * np.clip((stop_grid - slope_start) / (slope_stop - slope_start), 0, 1)
    stop_matrix = spectrum(spec.num_taps, spec.num_cosines, stop_grid) * 10 ** (scale_db / 20)[:, None]
    edges = np.array([spec.tenth_db_edge] if spec.tenth_db_edge else [])
    edge_matrix = spectrum(spec.num_taps, spec.num_cosines, edges)
    growth = np.clip((pass_grid - spec.fine_edge) / (spec.passband - spec.fine_edge), 0, 1)
    ripple = 10 ** (spec.fine_ripple_db * (spec.ripple_db / spec.fine_ripple_db) ** growth / 20) - 1
    direct = np.eye(1, spec.num_cosines)[0]
    end = (-1.0) ** np.arange(spec.num_cosines)[None, :]
    zeros = np.zeros((len(pass_matrix), 1))
    ones = np.ones((len(stop_matrix), 1))
    rows = np.block(
        [
            [pass_matrix, zeros],
            [-pass_matrix, zeros],
            [-edge_matrix, np.zeros((len(edges), 1))],
            [end, np.zeros((1, 1))],
            [-end, np.zeros((1, 1))],
            [stop_matrix, -ones],
            [-stop_matrix, -ones],
        ]
    )
    bound = np.concatenate(
        [
            ripple + 1,
            ripple - 1,
            np.full(len(edges), -(10 ** (-0.098 / 20))),
            [spec.end, spec.end],
            np.zeros(2 * len(stop_matrix)),
        ]
    )
    # Unknowns are c_k * T, which are of the order of one.
    rows[:, :-1] /= spec.num_taps
    result = linprog(
        np.concatenate([np.zeros(spec.num_cosines), [1.0]]),
        A_ub=rows,
        b_ub=bound,
        # The kernel has the gain 1 at zero frequency.
        A_eq=np.append(direct, 0.0)[None, :],
        b_eq=[1.0],
        bounds=(None, None),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if result.status != 0:
        raise RuntimeError(f"{spec.name}: {result.message}")
    coefficients: Float = result.x[:-1] / spec.num_taps
    return coefficients


def kernel(coefficients: Float, num_taps: int, t: Float) -> Float:
    """Evaluate the series inside its support, and half of it where it ends."""
    k = np.arange(len(coefficients))
    values: Float = np.cos(2 * np.pi * np.outer(t, k) / num_taps) @ coefficients
    inside = np.abs(t) - num_taps / 2
    return values * np.where(inside < 0, 1.0, np.where(inside == 0, 0.5, 0.0))


def measure(spec: Specification, coefficients: Float, num_phases: int) -> tuple[float, float, float, float, float]:
    """Return ripple to 0.90 and to the fine edge, rejection from the stopband edge and around 2.0, the -0.1 dB edge.

    The coefficients are rounded to float32 as in the bank.
    """
    half = spec.num_taps * num_phases // 2
    taps = kernel(coefficients, spec.num_taps, np.arange(-half, half + 1) / num_phases)
    phases = [taps[p::num_phases] for p in range(num_phases)]
    for phase in phases:
        phase /= phase.sum()
    size = 1 << 20
    response = np.abs(np.fft.rfft(taps.astype(np.float32).astype(np.float64), size)) / num_phases
    f = np.arange(len(response)) / size * 2 * num_phases
    gain_db = 20 * np.log10(np.maximum(response, 1e-15))
    ripple = np.abs(gain_db[f <= 0.90]).max()
    fine_ripple = np.abs(gain_db[f <= spec.fine_edge]).max()
    edge = f[np.argmax(gain_db < -0.1)]
    around_2 = (f >= 1.8) & (f <= 2.2)
    return ripple, fine_ripple, -gain_db[f >= spec.stopband].max(), -gain_db[around_2].max(), edge


def main() -> None:
    """Design every kernel, report its figures and print its table."""
    for spec in SPECIFICATIONS:
        coefficients = design(spec)
        for num_phases in (2, 3, 6, 160):
            ripple, fine_ripple, rejection, image, edge = measure(spec, coefficients, num_phases)
            sys.stderr.write(
                f"{spec.name} T={spec.num_taps} phases={num_phases}: ripple {ripple:.4f} dB to 0.90, "
                f"{fine_ripple:.4f} dB to {spec.fine_edge:.2f}, {rejection:.1f} dB from {spec.stopband:.2f}, "
                f"{image:.1f} dB around 2.00, -0.1 dB at {edge:.4f}\n"
            )
        sys.stdout.write(f"const {spec.name}_TAPS: f64 = {spec.num_taps:.1f};\n")
        sys.stdout.write(f"const {spec.name}: [f64; {len(coefficients)}] = [\n")
        sys.stdout.writelines(f"    {c!r},\n" for c in coefficients.tolist())
        sys.stdout.write("];\n")


if __name__ == "__main__":
    main()
