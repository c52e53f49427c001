"""Profiles `cli` and `sysctl`: command lines and knobs, most of them right and some of them wrong."""

from generate import Place, command, profile

SCHEDULERS = ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"]
# The ones that the first versions of lvx have get more cases.
SCHEDULER_WEIGHTS = {**dict.fromkeys(SCHEDULERS, 1), "rr": 4, "wrr": 4, "lc": 4, "wlc": 4}
FLAGS = ["flag-1", "flag-2", "flag-3", "sh-fallback", "sh-port", "mh-fallback", "mh-port", "flag-1,flag-2",
         "sh-port,sh-fallback", "mh-port,mh-fallback", "flag-1,flag-3", "flag-4", "", "flag-1,"]
BAD_ADDRESSES = ["10.9.0.1:", "10.9.0.1:65536", "10.9.0.1:-1", ":80", "80", "", "300.1.1.1:80", "[fd00:9::1]",
                 "[10.9.0.1]:80", "fd00:9::1", "10.9.1:80", "0.0.0.0:80", "224.0.0.1:80", "255.255.255.255:80",
                 "127.0.0.1:80", "[ff02::1]:80", "[fe80::1]:80", "[::]:80", "[::ffff:10.9.0.1]:80", "10.9.0.1:http",
                 "10.9.0.1:nosuch", "10.9.0.1:080", "10.9.0.1:+80", "10.9.0.1: 80", "0x0a090001:80", "010.9.0.1:80",
                 "10.9.0.1:80x", "[fd00:9::1]:", "[fd00:9::1]80", "[fd00:9::1:80", "10.9.0.1:80:80"]
BAD_NUMBERS = ["-1", "0", "+1", " 1", "1 ", "01", "0x10", "1x", "", "65535", "65536", "2147483647", "2147483648",
               "4294967295", "4294967296", "99999999999999999999", "abc", "1.5", "2678400", "2678401"]
LIST_OPTIONS = ["-n", "--stats", "--rate", "--thresholds", "--persistent-conn", "--nosort", "--sort", "--exact", "-X",
                "--tun-info", "-c", "--timeout", "--daemon", "--syncid", "--numeric", "--connection"]
MASKS = ["255.255.255.0", "255.255.0.0", "255.255.255.255", "0.0.0.0", "255.0.255.0", "24", "255.255.255", "64", "128",
         "129", "0", "1", "fd00::", "abc"]


class Words:
    """Draws commands over a few services and servers, so that they meet."""

    def __init__(self, draw):
        self.draw = draw
        self.places = [Place(draw, 4), Place(draw, 6)]
        self.services = [self.new_service() for _ in range(draw.randint(2, 4))]
        self.servers = [self.new_server() for _ in range(draw.randint(2, 5))]

    def place(self):
        return self.places[0] if self.draw.often(0.7) else self.places[1]

    def new_service(self):
        draw = self.draw
        if draw.often(0.12):
            mark = draw.choice(["1", "2", "7", "4294967295", "2147483648"])
            return ["-f", mark] + (["-6"] if draw.often(0.3) else [])
        address = self.place().vip(draw.randint(1, 3))
        port = draw.choice([80, 80, 443, 53, 8080, 0, 21, 5060])
        option = draw.weighted({"-t": 6, "-u": 3, "--sctp-service": 1, "--tcp-service": 1, "--udp-service": 1})
        return [option, f"[{address}]:{port}" if ":" in address else f"{address}:{port}"]

    def new_server(self):
        draw = self.draw
        address = self.place().server(draw.randint(1, 9))
        port = draw.choice([80, 80, 443, 8080, 0])
        if draw.often(0.25):
            return address
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def service(self):
        draw = self.draw
        if draw.often(0.05):
            return [draw.choice(["-t", "-u", "--sctp-service"]), draw.choice(BAD_ADDRESSES)]
        if draw.often(0.02):
            return ["-f", draw.choice(BAD_NUMBERS)]
        return draw.choice(self.services) if draw.often(0.9) else self.new_service()

    def server(self, service):
        """Of the service's family, most often."""
        draw = self.draw
        if draw.often(0.04):
            return draw.choice(BAD_ADDRESSES)
        version6 = "[" in service[1] or "-6" in service
        fitting = [server for server in self.servers if (server.count(":") > 1) == version6]
        if fitting and draw.often(0.93):
            return draw.choice(fitting)
        return draw.choice(self.servers)

    def number(self, usual):
        return str(self.draw.choice(usual)) if self.draw.often(0.94) else self.draw.choice(BAD_NUMBERS)

    def service_options(self):
        draw, words = self.draw, []
        scheduler = None
        if draw.often(0.85):
            scheduler = draw.weighted(SCHEDULER_WEIGHTS)
            if draw.often(0.05):
                scheduler = draw.choice(["none", "nosuch", "", "RR", "rrr", "wlcwlcwlcwlcwlcwlc", "twos"])
            words.append([draw.choice(["-s", "--scheduler"]), scheduler])
        if draw.often(0.3):
            words.append([draw.choice(["-p", "--persistent"])] + ([self.number([1, 50, 300, 360])] if draw.often(0.7) else []))
            if draw.often(0.4):
                words.append([draw.choice(["-M", "--netmask"]), draw.choice(MASKS)])
        elif draw.often(0.03):
            words.append(["-M", draw.choice(MASKS)])
        if draw.often(0.1):
            words.append([draw.choice(["-o", "--ops"])])
        if draw.often(0.08):
            words.append(["--pe", draw.choice(["sip", "sip", "none", "nosuch", ""])])
        if draw.often(0.2):
            fitting = [flag for flag in FLAGS if flag.startswith(f"{scheduler}-")]
            words.append([draw.choice(["-b", "--sched-flags"]), draw.choice(fitting if fitting and draw.often(0.7) else FLAGS)])
        return words

    def server_options(self):
        draw, words = self.draw, []
        if draw.often(0.8):
            words.append([draw.choice(["-g", "-m", "-i", "--masquerading", "--gatewaying", "--ipip"])])
        if draw.often(0.6):
            words.append([draw.choice(["-w", "--weight"]), self.number([0, 1, 2, 3, 10, 100, 65535])])
        if draw.often(0.2):
            words.append([draw.choice(["-x", "--u-threshold"]), self.number([0, 1, 5, 10, 1000])])
        if draw.often(0.15):
            words.append([draw.choice(["-y", "--l-threshold"]), self.number([0, 1, 4, 9])])
        if draw.often(0.12):
            words.append(["--tun-type", draw.choice(["ipip", "gue", "gre", "ipip", "vxlan", ""])])
            if draw.often(0.4):
                words.append(["--tun-port", self.number([6080, 5555])])
            if draw.often(0.3):
                words.append([draw.choice(["--tun-csum", "--tun-nocsum", "--tun-remcsum"])])
        return words

    def flat(self, head, groups):
        """The command's words, its options shuffled now and then."""
        if self.draw.often(0.3):
            self.draw.shuffle(groups)
        return ["ipvsadm", *head, *(word for group in groups for word in group)]

    def add_service(self, verb):
        return self.flat([verb], [self.service()] + self.service_options())

    def add_server(self, verb):
        service = self.service()
        return self.flat([verb], [service, [self.draw.choice(["-r", "--real-server"]), self.server(service)]] + self.server_options())

    def listing(self):
        draw = self.draw
        verb = draw.choice(["-L", "-L", "-l", "--list"])
        groups = [["-n"]] if draw.often(0.93) else []
        if draw.often(0.3):
            groups.append(self.service())
        groups += [[option] for option in draw.sample(LIST_OPTIONS[1:], draw.choice([0, 0, 1, 1, 1, 2, 3]))]
        return self.flat([verb], groups)

    def command(self):
        """One command's words."""
        draw = self.draw
        kind = draw.weighted({"A": 24, "E": 10, "D": 5, "a": 30, "e": 12, "d": 7, "L": 22, "S": 5, "C": 1, "Z": 3,
                              "set": 3, "daemon": 2, "alone": 1})
        if kind in "AE":
            return self.add_service({"A": draw.choice(["-A", "--add-service"]), "E": draw.choice(["-E", "--edit-service"])}[kind])
        if kind in ("a", "e"):
            return self.add_server({"a": draw.choice(["-a", "--add-server"]), "e": draw.choice(["-e", "--edit-server"])}[kind])
        if kind == "D":
            return ["ipvsadm", draw.choice(["-D", "--delete-service"]), *self.service()]
        if kind == "d":
            service = self.service()
            return ["ipvsadm", draw.choice(["-d", "--delete-server"]), *service, "-r", self.server(service)]
        if kind == "L":
            return self.listing()
        if kind == "S":
            return ["ipvsadm", draw.choice(["-S", "--save"])] + (["-n"] if draw.often(0.95) else [])
        if kind == "C":
            return ["ipvsadm", draw.choice(["-C", "--clear"])]
        if kind == "Z":
            return ["ipvsadm", draw.choice(["-Z", "--zero"])] + (self.service() if draw.often(0.6) else [])
        if kind == "set":
            return ["ipvsadm", "--set", *(self.number([0, 1, 10, 60, 900, 3600]) for _ in range(draw.choice([3, 3, 3, 3, 2, 4])))]
        if kind == "daemon":
            words = ["ipvsadm", draw.choice(["--start-daemon", "--start-daemon", "--stop-daemon"]), draw.choice(["master", "backup", "both"])]
            return words + (["--mcast-interface", draw.choice(["eth0", "lo", "nosuch"])] if draw.often(0.7) else []) \
                + (["--syncid", self.number([0, 1, 255])] if draw.often(0.4) else [])
        return draw.choice([["ipvsadm"], ["ipvsadm", "-n"], ["ipvsadm", "-v"], ["ipvsadm", "nosuch"], ["ipvsadm", "--"],
                            ["ipvsadm", "-Ln", "--"], ["ipvsadm", "-x"], ["ipvsadm", "--version", "-n"],
                            ["ipvsadm-save", "-n"], ["ipvsadm-save", "-x"], ["ipvsadm", "-h"]])

    def spoil(self, words):
        """A mistake that a person or a script may make."""
        draw, words = self.draw, list(words)
        kind = draw.choice(["drop", "double", "swap", "abbreviate", "value", "foreign", "cluster", "equals", "upper"])
        at = draw.randrange(1, len(words)) if len(words) > 1 else 0
        if at == 0:
            return words + ["-q"]
        long = [number for number, word in enumerate(words) if word.startswith("--") and len(word) > 5]
        if kind == "drop":
            del words[at]
        elif kind == "double":
            words.insert(draw.randrange(1, len(words) + 1), words[at])
        elif kind == "swap":
            other = draw.randrange(1, len(words))
            words[at], words[other] = words[other], words[at]
        elif kind == "abbreviate" and long:
            number = draw.choice(long)
            words[number] = words[number][: draw.randrange(3, len(words[number]))]
        elif kind == "value":
            words[at] = draw.choice(BAD_NUMBERS + BAD_ADDRESSES)
        elif kind == "foreign":
            extra = draw.choice([["-c"], ["--stats"], ["-s", "rr"], ["-m"], ["-w", "1"], ["-p"], ["-o"], ["-A"], ["-L"],
                                 ["--daemon"], ["-x", "1"], ["-t", "10.9.0.1:80"], ["-r", "10.2.0.1"], ["word"], ["-6"],
                                 ["--pe", "sip"], ["-b", "flag-1"], ["--syncid", "1"], ["-q"], ["--nosuch"], ["-n"]])
            words[len(words) if draw.often(0.7) else at : 0] = extra
        elif kind == "cluster" and at + 1 < len(words) and words[at].startswith("-") and not words[at].startswith("--"):
            words[at : at + 2] = [words[at] + words[at + 1].removeprefix("-")]
        elif kind == "equals" and long and long[-1] + 1 < len(words):
            words[long[-1] : long[-1] + 2] = [words[long[-1]] + "=" + words[long[-1] + 1]]
        elif kind == "upper":
            words[at] = words[at].swapcase()
        return words


def listed(words):
    """The step of a command, marked where the kernel's order of services is that of a hash with a random key."""
    step = command(words)
    if words[0] == "ipvsadm" and "--nosort" in words:
        step["compare"] = "blocks-any-order"
    return step


def restore_text(words):
    """A file for -R: what -S writes, with mistakes."""
    draw, lines = words.draw, []
    for _ in range(draw.randint(1, 8)):
        kind = draw.weighted({"A": 5, "a": 6, "odd": 1})
        made = words.add_service("-A") if kind == "A" else words.add_server("-a") if kind == "a" else words.command()
        # Without quoting, an empty word is no word.
        lines.append(" ".join(word for word in made[1:] if word.strip()))
    if draw.often(0.15):
        lines.insert(draw.randrange(len(lines)), draw.choice(["", "# comment", "   ", "\t", "ipvsadm " + lines[0], "nosuch", "-L -n"]))
    return "\n".join(lines) + ("\n" if draw.often(0.9) else "")


@profile("cli")
def cli(draw):
    """Commands and nothing else."""
    words = Words(draw)
    steps = []
    mistakes = draw.choice([0.05, 0.1, 0.35])
    for _ in range(draw.randint(8, 22)):
        if draw.often(0.06):
            argv = draw.choice([["ipvsadm", "-R"], ["ipvsadm", "--restore"], ["ipvsadm-restore"], ["ipvsadm-restore", "-n"]])
            steps.append(command(argv, restore_text(words)))
            continue
        made = words.command()
        if draw.often(mistakes):
            made = words.spoil(made)
        if made[1:2] and made[1].lstrip("-") in ("R", "restore"):
            continue
        steps.append(listed(made))
    steps += [command("ipvsadm -Ln"), command("ipvsadm -Sn"), command("ipvsadm -Ln --thresholds")]
    return steps, {"light": True}


KNOBS = ["am_droprate", "amemthresh", "backup_only", "cache_bypass", "conn_reuse_mode", "conntrack", "drop_entry",
         "drop_packet", "secure_tcp", "expire_nodest_conn", "expire_quiescent_template", "ignore_tunneled",
         "lblc_expiration", "lblcr_expiration", "nat_icmp_send", "pmtu_disc", "run_estimation", "schedule_icmp",
         "sloppy_tcp", "sloppy_sctp", "snat_reroute", "sync_persist_mode", "sync_ports", "sync_refresh_period",
         "sync_retries", "sync_sock_size", "sync_threshold", "sync_version"]
VALUES = ["0", "1", "2", "3", "4", "5", "8", "63", "64", "128", "100", "86400", "-1", "-5", "2147483647", "2147483648",
          "-2147483648", "-2147483649", "4294967295", "4294967296", "18446744073709551616", "", " ", "1 2", "2 1",
          "3 50", "50 3", "0 0", "5 0", "-1 5", "1\t2", "1,2", "1 2 3", "1x", "x1", "0x10", "010", "+1", " 1", "1 ",
          "1.5", "abc", "10000000000", "3 abc", "21474837", "21474836", "1\n2", "--1", "- 1", "1 -1", "7 7"]


@profile("sysctl")
def sysctl(draw):
    """Writes and reads of net.ipv4.vs."""
    steps = []
    knobs = draw.sample(KNOBS, 6) + ["sync_threshold", "sync_ports"]
    for _ in range(draw.randint(20, 40)):
        knob = "vs." + draw.choice(knobs)
        if draw.often(0.6):
            steps.append({"sysctl": knob, "value": draw.choice(VALUES)})
        steps.append({"sysctl_get": knob})
    return steps, {"light": True}
