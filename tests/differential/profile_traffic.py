"""Profiles `sched`, `persist`, `states` and `marks`: who gets which packet, and what the table says of it."""

from generate import SERVICE_OPTION, Flow, Place, command, profile
from packets import endpoint
from profile_cli import SCHEDULER_WEIGHTS

WEIGHTS = {0: 2, 1: 6, 2: 3, 3: 3, 5: 2, 7: 1, 10: 1, 100: 1}
SCHEDULER_FLAGS = {"sh": ["sh-fallback", "sh-port", "sh-fallback,sh-port"],
                   "mh": ["mh-fallback", "mh-port", "mh-fallback,mh-port"]}
KNOBS = {"conn_reuse_mode": "0123", "expire_nodest_conn": "01", "sloppy_tcp": "01", "expire_quiescent_template": "01",
         "sloppy_sctp": "01"}


class Service:
    """A service that the case makes, and the servers that it has at each moment."""

    def __init__(self, draw, place, protocol, vip, port, scheduler, options=(), methods=("-g",)):
        self.draw, self.place, self.protocol, self.vip, self.port = draw, place, protocol, vip, port
        self.scheduler, self.options, self.methods = scheduler, list(options), methods
        self.servers = {}
        self.name = [SERVICE_OPTION[protocol], endpoint(vip, port)] if protocol != "mark" else \
            ["-f", str(vip)] + (["-6"] if place.version == 6 else [])

    def add(self):
        flags = []
        if self.scheduler in SCHEDULER_FLAGS and self.draw.often(0.6):
            flags = ["-b", self.draw.choice(SCHEDULER_FLAGS[self.scheduler])]
        return command(["ipvsadm", "-A", *self.name, "-s", self.scheduler, *self.options, *flags])

    def server_words(self, number, thresholds=0.12):
        draw = self.draw
        port = self.port if draw.often(0.85) else draw.choice([8080, 81, 0])
        server = endpoint(self.place.server(number), port)
        # A server keeps its method but for now and then: that the kernel forgets routes then is known (deviations.py).
        method = self.servers.get(server) or self.methods[number % len(self.methods)]
        method = draw.choice(self.methods) if draw.often(0.03) else method
        words = ["-r", server, method, "-w", str(draw.weighted(WEIGHTS))]
        if draw.often(thresholds):
            upper = draw.randint(1, 6)
            words += ["-x", str(upper)] + (["-y", str(draw.randint(0, upper))] if draw.often(0.5) else [])
        return words

    def add_server(self):
        number = self.draw.randint(1, 12)
        words = self.server_words(number)
        self.servers[words[1]] = words[2]
        return command(["ipvsadm", "-a", *self.name, *words])

    def edit(self):
        """A change of the service or one of its servers."""
        draw = self.draw
        kind = draw.weighted({"add": 4, "delete": 4, "edit": 6, "scheduler": 1, "flags": 1, "zero": 1})
        if kind == "add" or not self.servers:
            return self.add_server()
        server = draw.choice(sorted(self.servers))
        if kind == "delete":
            del self.servers[server]
            return command(["ipvsadm", "-d", *self.name, "-r", server])
        if kind == "edit":
            words = self.server_words(1)
            words[1:3] = [server, words[2] if draw.often(0.03) else self.servers[server]]
            return command(["ipvsadm", "-e", *self.name, *words])
        if kind == "zero":
            return command(["ipvsadm", "-Z", *self.name])
        if kind == "scheduler":
            self.scheduler = draw.weighted(SCHEDULER_WEIGHTS)
        return dict(self.add(), argv=["ipvsadm", "-E", *self.add()["argv"][2:]])


def knobs(draw, most=3):
    """Writes of some knobs that traffic feels."""
    return [{"sysctl": "vs." + name, "value": draw.choice(KNOBS[name])} for name in draw.some(sorted(KNOBS), most)]


def first_event(protocol):
    return {"tcp": "S", "udp": "", "sctp": "INIT"}[protocol]


def later_event(draw, protocol):
    if protocol == "tcp":
        return draw.weighted({"A": 6, "PA": 3, "FA": 3, "R": 2, "S": 1, "F": 1})
    return "" if protocol == "udp" else draw.weighted({"COOKIE_ECHO": 3, "DATA": 4, "SHUTDOWN": 2, "ABORT": 1, "INIT": 1})


LISTINGS = ["ipvsadm -Ln", "ipvsadm -Ln --stats", "ipvsadm -Ln --thresholds", "ipvsadm -Ln --persistent-conn"]


def listing(draw):
    """A look at services; most often the file, which costs the reference least."""
    if draw.often(0.6):
        return {"proc": "ip_vs"}
    return command(draw.choice([LISTINGS[0], LISTINGS[2], LISTINGS[3]]))


CONNECTIONS = {"conns": "ipvsadm -Lnc"}


def services(draw, place, count, protocols, options=lambda: (), ports=(80, 443, 8080)):
    """So many services with one to twelve servers each, and the steps that make them."""
    made, steps = [], []
    for number in range(count):
        protocol = draw.weighted(protocols)
        methods = draw.choice([("-g",), ("-m",), ("-i",), ("-g", "-m", "-i"), ("-m", "-g")])
        made.append(Service(draw, place, protocol, place.vip(1 + number % 3), ports[number % len(ports)],
                            draw.weighted(SCHEDULER_WEIGHTS), options(), methods))
        steps.append(made[-1].add())
        steps += [made[-1].add_server() for _ in range(draw.choice([1, 2, 2, 3, 3, 4, 5, 7, 12]))]
    return made, steps


def traffic(draw, place, made, events, edits=0.1, clients=None):
    """Connections and what follows on them, with changes and listings in between."""
    flows, steps = [], []
    known = [place.client() for _ in range(clients)] if clients else None
    for _ in range(events):
        kind = draw.weighted({"new": 55, "old": 30, "edit": int(edits * 100), "list": 6, "state": 4, "knob": 1})
        if kind == "new" or kind in ("old", "state") and not flows:
            service = draw.choice(made)
            client = draw.choice(known) if known else place.client()
            port = draw.randrange(1024, 65536)
            vport = service.port
            if vport in (0, 21) and draw.often(0.7):
                vport = draw.choice([21, 80, 443, 2000, port])
            flow = Flow(service.protocol, client, port, service.vip, vport or 80)
            flows.append(flow)
            event = first_event(flow.protocol) if draw.often(0.93) else later_event(draw, flow.protocol)
            steps.append(flow.packet(event))
        elif kind == "old":
            flow = draw.choice(flows[-12:])
            steps.append(flow.packet(later_event(draw, flow.protocol)))
        elif kind == "edit":
            steps.append(draw.choice(made).edit())
        elif kind == "list":
            steps.append(listing(draw))
        elif kind == "state":
            steps.append({"conn": draw.choice(flows).name})
        else:
            steps += knobs(draw, 1)
    return steps


@profile("sched")
def sched(draw):
    """Schedulers under changes."""
    place = Place(draw, 4 if draw.often(0.7) else 6)
    made, steps = services(draw, place, draw.choice([1, 1, 1, 2]), {"tcp": 7, "udp": 3, "sctp": 1})
    steps = knobs(draw, 2) + steps + traffic(draw, place, made, draw.randint(25, 70))
    return steps + [command("ipvsadm -Ln"), CONNECTIONS]


@profile("persist")
def persist(draw):
    """Persistent services, their templates and masks."""
    place = Place(draw, 4 if draw.often(0.7) else 6)
    masks = ["255.255.255.255", "255.255.255.0", "255.255.0.0", "255.255.254.0"] if place.version == 4 else ["128", "64", "112"]

    def options():
        words = ["-p"] + ([str(draw.choice([1, 2, 5, 50, 300]))] if draw.often(0.8) else [])
        return words + (["-M", draw.choice(masks)] if draw.often(0.4) else [])

    ports = draw.choice([(80, 443), (0, 80), (21, 0), (21, 80), (80, 0), (0, 0)])
    made, steps = services(draw, place, draw.choice([1, 2, 2, 3]), {"tcp": 7, "udp": 3}, options, ports)
    # Several ports of one address, where port 0 takes what no other service does.
    vip = place.vip(1)
    for service in made:
        service.vip = vip if draw.often(0.5) else service.vip
    body = traffic(draw, place, made, draw.randint(20, 45), 0.12, clients=4)
    for at in range(len(body)):
        if draw.often(0.06):
            body[at] = draw.choice([CONNECTIONS, command("ipvsadm -Ln --persistent-conn")])
    if draw.often(0.5):
        body.insert(draw.randrange(len(body)), {"sleep": draw.choice([1.3, 2.4])})
    return knobs(draw) + steps + body + [CONNECTIONS, command("ipvsadm -Ln --persistent-conn"), command("ipvsadm -Ln")]


@profile("states")
def states(draw):
    """Flags and chunks in any order from both sides, and the state after each."""
    place = Place(draw, 4 if draw.often(0.75) else 6)
    protocol = draw.weighted({"tcp": 6, "sctp": 2, "udp": 1})
    method = draw.weighted({"-m": 5, "-g": 3, "-i": 1})
    service = Service(draw, place, protocol, place.vip(1), 80, "rr", (), (method,))
    server, sport = place.server(1), 80 if draw.often(0.7) or method != "-m" else 8080
    steps = knobs(draw) + [service.add(), command(["ipvsadm", "-a", *service.name, "-r", endpoint(server, sport), method])]
    if draw.often(0.3):
        times = [str(draw.choice([0, 2, 3, 10, 100, 900])) for _ in range(3)]
        steps.append(command(["ipvsadm", "--set", *times]))
    if draw.often(0.15):
        steps.append({"sysctl": "vs.secure_tcp", "value": draw.choice(["0", "3"])})
    slept = 0.0
    flows = [Flow(protocol, place.client(), draw.randrange(1024, 65536), service.vip, 80) for _ in range(draw.randint(1, 3))]
    chunks = ["DATA", "INIT", "INIT_ACK", "COOKIE_ECHO", "COOKIE_ACK", "SHUTDOWN", "SHUTDOWN_ACK", "SHUTDOWN_COMPLETE",
              "ERROR", "ABORT", "SACK", "HEARTBEAT"]
    for flow in flows:
        if draw.often(0.9):
            steps += [flow.packet(first_event(protocol)), {"conn": flow.name}]
    for _ in range(draw.randint(12, 40)):
        flow = draw.choice(flows)
        if protocol == "tcp":
            event = draw.weighted({"S": 3, "A": 4, "FA": 3, "R": 2, "SA": 3, "PA": 1, "F": 1, "RA": 1, "SF": 0.3, "": 0.3,
                                   "SR": 0.3, "FR": 0.2, "UFP": 0.3, "SFRPAU": 0.2, "P": 0.2, "AEC": 0.2})
        else:
            event = ",".join(draw.sample(chunks, draw.choice([1, 1, 1, 1, 2]))) if protocol == "sctp" else ""
        if draw.often(0.45):
            steps.append(flow.answer(server, sport, 1, event))
        else:
            steps.append(flow.packet(event))
        steps.append({"conn": flow.name})
        if draw.often(0.04) and slept < 3:
            slept += 1.2
            steps += [{"sleep": 1.2}, {"conn": flow.name}]
        if draw.often(0.05):
            steps += knobs(draw, 1)
        if draw.often(0.03):
            steps.append(command(["ipvsadm", "--set", *(str(draw.choice([0, 2, 5, 60])) for _ in range(3))]))
        if draw.often(0.03):
            verb = draw.choice([["-d"], ["-e", "-w", "0"], ["-e", "-w", "1"], ["-a"]])
            steps.append(command(["ipvsadm", verb[0], *service.name, "-r", endpoint(server, sport),
                                  *([method] if verb[0] != "-d" else []), *verb[1:]]))
    return steps + [{"proc": "ip_vs"}, CONNECTIONS]


@profile("marks")
def marks(draw):
    """Services by firewall mark; the marks are set by iptables in the reference and by its saved rules in lvx."""
    place = Place(draw, 4 if draw.often(0.75) else 6)
    program = "iptables" if place.version == 4 else "ip6tables"
    whole = "10.1.0.0/16" if place.version == 4 else "fd00:1::/64"
    steps = []
    for _ in range(draw.randint(1, 6)):
        words = [program, "-t", "mangle", "-A", "PREROUTING"]
        if draw.often(0.8):
            words += (["!"] if draw.often(0.1) else []) + ["-d", place.vip(draw.randint(1, 3))]
        if draw.often(0.3):
            words += (["!"] if draw.often(0.2) else []) + ["-s", draw.choice([whole, place.client()])]
        protocol = draw.choice(["tcp", "udp", None])
        if protocol:
            words += ["-p", protocol]
            kind = draw.choice(["none", "dport", "multiport", "sport"])
            negated = ["!"] if draw.often(0.15) else []
            if kind == "dport":
                words += negated + ["--dport", draw.choice(["80", "80:90", "443", "0:1023", "1024:"])]
            elif kind == "multiport":
                words += ["-m", "multiport"] + negated + [draw.choice(["--dports", "--ports"]), draw.choice(["80,443", "80:90,8080", "53"])]
            elif kind == "sport":
                words += negated + ["--sport", draw.choice(["1024:40000", "40000:"])]
        value = draw.choice(["1", "2", "3", "0x1/0xff", "0x100/0x100"])
        words += ["-j", "MARK"] + (["--set-mark", value] if draw.often(0.8) else [draw.choice(["--set-xmark", "--or-mark"]), value.split("/")[0]])
        steps.append(command(words))
    steps.append(command([program + "-save", "-t", "mangle"]))
    made = []
    for mark in draw.sample([1, 2, 3, 257], draw.choice([1, 2, 3])):
        options = ["-p", "50"] if draw.often(0.3) else []
        service = Service(draw, place, "mark", mark, 80, draw.weighted(SCHEDULER_WEIGHTS), options, draw.choice([("-g",), ("-m",)]))
        made.append(service)
        steps += [service.add()] + [service.add_server() for _ in range(draw.randint(1, 4))]
    flows = []
    for _ in range(draw.randint(20, 45)):
        kind = draw.weighted({"new": 60, "old": 25, "edit": 8, "list": 7})
        if kind == "new" or kind == "old" and not flows:
            protocol = draw.weighted({"tcp": 7, "udp": 3})
            flows.append(Flow(protocol, place.client(), draw.randrange(1024, 65536), place.vip(draw.randint(1, 3)),
                              draw.choice([80, 443, 8080, 85, 53, 2000])))
            steps.append(flows[-1].packet(first_event(protocol)))
        elif kind == "old":
            flow = draw.choice(flows[-8:])
            steps.append(flow.packet(later_event(draw, flow.protocol)))
        else:
            steps.append(draw.choice(made).edit() if kind == "edit" else listing(draw))
    return steps + [command("ipvsadm -Ln"), CONNECTIONS]
