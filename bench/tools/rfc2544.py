"""The command line of scripts/rfc2544: which tests, over which profile, by which generator; and the report."""

import argparse
import json
import sys

import backends
import build
import profiles
import search

# What RFC 2544 asks for: section 24 for trials, 26.2 for latency.
TRIAL_SECONDS, LATENCY_SECONDS, LATENCY_REPEATS = 60.0, 120.0, 20
TESTS = ("throughput", "latency", "loss", "all")


def bounded(least, most, kind=float):
    """A type for argparse."""

    def parse(text):
        number = kind(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"from {least} to {most}")
        return number

    parse.__name__ = "number"
    return parse


def sizes(text):
    """A list of sizes; `rfc` are those of section 9.1."""
    if text == "rfc":
        return list(profiles.RFC2544_OCTETS)
    one = bounded(profiles.OCTETS_MIN, profiles.OCTETS_MAX, int)
    return [one(word) for word in text.split(",")]


def parse(words):
    """Options."""
    parser = argparse.ArgumentParser(
        prog="rfc2544",
        description="Benchmarks a director by RFC 2544: throughput (section 26.1), latency (26.2), frame loss rate (26.3).",
    )
    parser.add_argument("test", choices=TESTS)
    parser.add_argument("--backend", choices=list(backends.BACKENDS), default="veth", help="generator (default: %(default)s)")
    parser.add_argument("--profile", default="udp64", help="a name of bench/profiles, or a path (default: %(default)s)")
    parser.add_argument("--network", metavar="FILE", help="a file like bench/profiles/network.json (trex, pktgen)")
    parser.add_argument("--sizes", type=sizes, help="N,... octets of frames with check sequence, or `rfc` (default: the profile's)")
    parser.add_argument("--seconds", type=bounded(0.01, 3600), default=TRIAL_SECONDS, help="of a trial (default: %(default)s)")
    parser.add_argument("--max-rate", type=bounded(1, 1e9), metavar="PPS", help="where to begin (default: line rate; veth: what it can send)")
    parser.add_argument("--tolerance", type=bounded(0.0001, 0.5), default=0.01, help="of the throughput, as a share of the most (default: %(default)s)")
    parser.add_argument("--loss-tolerance", type=bounded(0, 0.5), default=0.0, help="share of frames that may be lost; RFC 2544: none")
    parser.add_argument("--attempts", type=bounded(1, 100, int), default=1, help="trials of a rate, of which one must pass; RFC 2544: 1")
    parser.add_argument("--latency-seconds", type=bounded(0.01, 3600), default=LATENCY_SECONDS, help="default: %(default)s")
    parser.add_argument("--latency-repeats", type=bounded(1, 1000, int), default=LATENCY_REPEATS, help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--require", action="store_true", help="fail (status 2) where the generator cannot run, instead of saying so")
    parser.add_argument("--subject", default="nat", choices=("floor", "kernel", "dr", "nat", "ipip"), help="veth: who forwards (default: %(default)s)")
    parser.add_argument("--program", metavar="PATH", help="veth: the benchmark, built (default: cargo builds it)")
    parser.add_argument("--interface", metavar="IF", help="pktgen: towards the clients' side")
    parser.add_argument("--servers", metavar="IF", help="pktgen: towards the servers' side")
    parser.add_argument("--server", default="127.0.0.1", help="trex: where its server runs (default: %(default)s)")
    parser.add_argument("--link", type=bounded(0.001, 1000), default=10.0, metavar="GBIT", help="trex, pktgen: the link's speed (default: %(default)s)")
    return parser.parse_args(words)


def departures(options):
    """What of RFC 2544 these options leave."""
    found = []
    if options.seconds < TRIAL_SECONDS:
        found.append(f"trials of {options.seconds:g} s instead of {TRIAL_SECONDS:g} (section 24)")
    if options.loss_tolerance > 0:
        found.append(f"{100 * options.loss_tolerance:g} % loss tolerated (section 26.1: none)")
    if options.attempts > 1:
        found.append(f"one of {options.attempts} trials must pass (section 26.1: the one)")
    if options.test in ("latency", "all"):
        if options.latency_seconds < LATENCY_SECONDS or options.latency_repeats < LATENCY_REPEATS:
            found.append(f"latency from {options.latency_repeats} x {options.latency_seconds:g} s (section 26.2: 20 x 120)")
    return found


def run(options, backend, jobs, say):
    """Results of all sizes."""
    results = []
    for job in jobs:
        maximum = options.max_rate or backend.maximum(job)
        result = {"octets": job.octets or [octets for octets, _ in job.profile.frames], "maximum_pps": maximum}

        def trial(rate, job=job):
            return backend.trial(job, rate, options.seconds, False)

        def timed(rate, job=job):
            return backend.trial(job, rate, options.latency_seconds, True)

        say(f"frames of {size_of(job)}, at most {maximum:.0f} a second of each direction")
        if options.test != "loss":
            found = search.throughput(trial, maximum, options.tolerance, options.loss_tolerance, options.attempts)
            result["throughput"] = {"pps": found.rate, "generator_limited": found.limited, "trials": found.trials}
            note = " (the generator's limit)" if found.limited else ""
            say(f"  throughput  {found.rate:.0f} frames a second{note}, {found.trials} trials")
        if options.test in ("latency", "all") and result["throughput"]["pps"] > 0:
            result["latency_us"] = search.latency(timed, result["throughput"]["pps"], options.latency_repeats)
            times = "  ".join(f"{name} {value:.1f}" for name, value in result["latency_us"].items())
            say(f"  latency     {times} microseconds")
        if options.test in ("loss", "all"):
            points = search.loss_curve(trial, maximum)
            result["loss"] = [{"percent": percent, "pps": rate, "loss_percent": loss} for percent, rate, loss in points]
            for percent, rate, loss in points:
                say(f"  loss        {percent:>3} %: {rate:.0f} frames a second, {loss:.3f} % lost")
        results.append(result)
    return results


def main(words=None, say=lambda text: print(text, flush=True), registry=None):
    """Runs what is asked; the exit status."""
    options = parse(words)
    try:
        profile = profiles.find(options.profile, options.network)
        path = profiles.paths().get(options.profile, options.profile)
        if options.network and options.backend == "veth":
            raise profiles.Refused("the network of veth is the one of bench/profiles; --network is for others")
        jobs = [backends.Job(profile.with_octets(octets), path, octets) for octets in options.sizes or []]
        jobs = jobs or [backends.Job(profile, path, None)]
    except profiles.Refused as why:
        print(f"rfc2544: {why}", file=sys.stderr)
        return 2
    try:
        backend = (registry or backends.BACKENDS)[options.backend](options)
        why = backend.why_not()
        if why:
            raise backends.Skipped(why)
        say(f"RFC 2544, {profile.name}: {profile.about}; by {options.backend}")
        for departure in departures(options):
            say(f"not as in RFC 2544: {departure}")
        results = run(options, backend, jobs, say)
    except backends.Skipped as why:
        say(f"skipped: {why}")
        return 2 if options.require else 0
    except (profiles.Refused, backends.Failed, build.BuildError, search.SearchError) as why:
        print(f"rfc2544: {why}", file=sys.stderr)
        return 1
    if options.json:
        report = {
            "profile": profile.name,
            "backend": options.backend,
            "subject": options.subject if options.backend == "veth" else None,
            "trial_seconds": options.seconds,
            "departures": departures(options),
            "results": results,
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
            file.write("\n")
    return 0


def size_of(job):
    """The sizes in words."""
    if job.octets:
        return f"{job.octets} octets"
    return ", ".join(str(octets) for octets, _ in job.profile.frames) + " octets"
