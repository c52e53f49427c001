"""The tests of RFC 2544 over anything that runs trials: throughput, latency, frame loss rate.

A trial is a function of a rate (frames a second) that returns a `Trial`. Nothing here knows generators or clocks.
"""

import dataclasses

# A generator that stays so much below the rate that it was asked for has reached its own limit.
KEPT = 0.99


class SearchError(Exception):
    """A trial that says nothing."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """Frames of all directions in one trial; `latency_us` maps names (p50, mean) to microseconds."""

    sent: int
    received: int
    seconds: float
    directions: int = 1
    latency_us: dict | None = None

    @property
    def lost(self):
        """Frames that did not arrive; more than were sent counts as none."""
        return max(0, self.sent - self.received)

    @property
    def loss(self):
        """Share of the sent frames that was lost."""
        return self.lost / self.sent

    @property
    def rate(self):
        """Frames a second of each direction that really left."""
        return self.sent / self.seconds / self.directions


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Highest rate without loss; `limited` where the generator went no faster, so the device may."""

    rate: float
    limited: bool
    trials: int


def ask(trial, rate):
    """A trial that sent something."""
    made = trial(rate)
    if made.sent <= 0 or made.seconds <= 0:
        raise SearchError(f"no frame was sent at {rate:.0f} a second")
    return made


def passes(trial, rate, loss_tolerance, attempts):
    """(whether one of the attempts lost no more than is tolerated, its rate, trials made)."""
    made = None
    for number in range(1, attempts + 1):
        made = ask(trial, rate)
        if made.loss <= loss_tolerance:
            return True, made.rate, number
    return False, made.rate, attempts


def throughput(trial, maximum, tolerance=0.01, loss_tolerance=0.0, attempts=1):
    """Section 26.1: the highest rate at which all frames arrive, by halving, to `tolerance` of the maximum.

    RFC 2544 has one trial for each rate and no loss; `loss_tolerance` and `attempts` are for machines that do other
    things as well, and say what was done in the report.
    """
    low, high, limited, trials = 0.0, maximum, False, 0
    rate = maximum
    while True:
        good, reached, made = passes(trial, rate, loss_tolerance, attempts)
        trials += made
        if good:
            slow = reached < KEPT * rate
            if reached > low:
                low, limited = reached, slow
            if not slow and rate >= maximum:
                break
            if slow:
                high = min(high, rate)
        else:
            # What really left was too much already, unless the generator has slept.
            high = min(high, reached if low < reached < rate else rate)
        if high - low <= tolerance * maximum:
            break
        rate = (low + high) / 2
    return Throughput(low, limited, trials)


def latency(trial, rate, repeats):
    """Section 26.2: the mean of what each of the trials at the throughput's rate says, in microseconds."""
    made = [ask(trial, rate).latency_us for _ in range(repeats)]
    if any(not times for times in made):
        raise SearchError("the generator took no times")
    return {name: sum(times[name] for times in made) / repeats for name in made[0]}


def loss_curve(trial, maximum, step_percent=10):
    """Section 26.3: loss from the maximum down in steps, until two rates in a row lose nothing.

    Gives (percent of the maximum, rate that really left, loss in percent).
    """
    points, clean = [], 0
    percent = 100
    while percent > 0 and clean < 2:
        made = ask(trial, maximum * percent / 100)
        points.append((percent, made.rate, 100 * made.loss))
        clean = clean + 1 if made.lost == 0 else 0
        percent -= step_percent
    return points


def line_rate(octets, gigabits):
    """Frames a second that a link carries; `octets` with check sequence, on average."""
    return gigabits * 1e9 / ((octets + 20) * 8)
