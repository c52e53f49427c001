//! The operator's own command.

use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use lvx::base::hex;
use lvx::command::probe::{self, Probe};
use lvx::host::options::{SOCKET_DEFAULT, SOCKET_VARIABLE};
use lvx::host::proc_files::{INTERVAL_DEFAULT_S, ProcOptions};
use lvx::host::{client, logging, offline, proc_files};
use lvx::service::{Protocol, sysctl};

/// Ask and steer a running lvxd, or replay packets through a director offline.
#[derive(Parser, Debug)]
#[command(name = "lvx", version)]
struct Arguments {
    /// Control socket of the director.
    #[arg(long, global = true, value_name = "PATH", env = SOCKET_VARIABLE, default_value = SOCKET_DEFAULT)]
    socket: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show what the director is doing: services, connections, packets by worker, drops by reason.
    Status {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show what was dropped or lost, by reason, with what each reason means.
    Drops {
        /// Show the reasons that did not occur, too.
        #[arg(long)]
        all: bool,
        /// As a JSON array of objects.
        #[arg(long)]
        json: bool,
        /// Show it again every so many seconds, until ended.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
        watch: Option<u16>,
    },
    /// Show the virtual routers: state, priority, addresses, who is MASTER, and why an instance is not.
    Vrrp {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show how long packets are in the director's hands, by worker: percentiles in microseconds.
    #[command(
        after_help = "From a worker's look into its rings to the flush of the batch; \"wait\" is how long at most \
                            packets lay in the rings before, since the last look.\n\n\
                            Example, what happens in ten seconds each:\n  lvx latency --reset --watch 10"
    )]
    Latency {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
        /// Begin anew once this is shown.
        #[arg(long)]
        reset: bool,
        /// Show it again every so many seconds, until ended.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
        watch: Option<u16>,
    },
    /// Explain what the director would do with a packet, step by step; nothing changes by it.
    #[command(after_help = "Examples:\n  lvx trace --from 10.1.0.1:40000 --to 10.9.0.1:80\n  \
                            lvx trace --from 10.2.0.1:80 --to 10.1.0.1:40000 --flags SA\n  \
                            lvx trace --interface eth0 --packet '4500 0028 0000 4000 4006 …'")]
    Trace(TraceOptions),
    /// Show or set knobs of net.ipv4.vs.
    #[command(after_help = "Examples:\n  lvx sysctl -a\n  lvx sysctl conn_reuse_mode\n  \
                            lvx sysctl net.ipv4.vs.expire_nodest_conn=1")]
    Sysctl {
        /// Show all knobs.
        #[arg(short, long, conflicts_with = "knobs")]
        all: bool,
        /// Set what a file like /etc/sysctl.conf says of net.ipv4.vs, all of it or nothing; - for standard input.
        #[arg(short = 'p', long = "load", value_name = "FILE", conflicts_with_all = ["knobs", "all"])]
        load: Option<PathBuf>,
        /// Knobs to show, or to set with =VALUE; with or without the prefix net.ipv4.vs.
        #[arg(value_name = "NAME[=VALUE]", required_unless_present_any = ["all", "load"])]
        knobs: Vec<String>,
    },
    /// Load or list the rules that mark packets for services of firewall marks (ipvsadm -f).
    Mark {
        #[command(subcommand)]
        command: MarkCommand,
    },
    /// Show how far directors are together that synchronise connections, or have a backup ask for the whole table.
    #[command(after_help = "Examples:\n  lvx sync status\n  lvx sync resync")]
    Sync {
        #[command(subcommand)]
        command: SyncCommand,
    },
    /// Change or show the addresses that stand in for clients: the pool of full NAT (ipvsadm -a … --fullnat).
    #[command(after_help = "An address must be on an interface of the director, and should serve nothing else.\n\n\
                            Example:\n  ip address add 10.2.0.200/32 dev eth1\n  \
                            lvx local-address add 10.2.0.200")]
    LocalAddress {
        #[command(subcommand)]
        command: LocalAddressCommand,
    },
    /// Run packets through a director offline: same input, same output.
    #[command(after_help = "With --steps, each line is a JSON object: {\"cmd\":[\"ipvsadm\",…]}, \
                            {\"in\":\"eth0\",\"hex\":\"…\"}, {\"advance\":SECONDS}, {\"sysctl\":[NAME,VALUE]} or \
                            {\"net\":LINE}; each is answered by one line.")]
    Replay {
        /// The director's network, one line each in iproute2's words.
        #[arg(long, value_name = "FILE")]
        net: PathBuf,
        /// Steps to take, one JSON object a line; - for standard input.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["rules", "input", "output", "conns", "stats"])]
        steps: Option<PathBuf>,
        /// With --steps: tell of each packet's way before it goes it, as `lvx trace --json` does; something else coming
        /// of it is an error.
        #[arg(long, requires = "steps")]
        trace: bool,
        /// Rules, as `ipvsadm-save -n` writes them.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
        /// Capture (pcapng) whose interfaces are named as the director's.
        #[arg(long = "in", value_name = "FILE", required_unless_present = "steps")]
        input: Option<PathBuf>,
        /// Where the packets go that left the director (pcapng).
        #[arg(long = "out", value_name = "FILE", required_unless_present = "steps")]
        output: Option<PathBuf>,
        /// Where the final connection table goes (ipvsadm -Lnc).
        #[arg(long, value_name = "FILE")]
        conns: Option<PathBuf>,
        /// Where the final counters go (ipvsadm -Ln --stats --exact).
        #[arg(long, value_name = "FILE")]
        stats: Option<PathBuf>,
    },
    /// Keep files like /proc/net/ip_vs* for programs that read those, until ended.
    #[command(after_help = "Writes DIR/net/ip_vs, ip_vs_stats, ip_vs_stats_percpu, ip_vs_app, ip_vs_conn and \
                            ip_vs_conn_sync in the kernel's format; DIR must be there. SIGTERM and SIGINT take the \
                            files away; while lvxd does not answer there are none.\n\n\
                            Example:\n  mkdir -p /run/lvx/proc && lvx proc /run/lvx/proc &\n  \
                            prometheus-node-exporter --path.procfs=/run/lvx/proc --collector.disable-defaults \
                            --collector.ipvs")]
    Proc {
        /// The directory that stands for /proc.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Seconds between two texts of a file.
        #[arg(long, value_name = "SECONDS", default_value_t = INTERVAL_DEFAULT_S,
              value_parser = clap::value_parser!(u16).range(1..=3600))]
        interval: u16,
        /// Write the files once, leave them and end.
        #[arg(long)]
        once: bool,
        /// Leave out the connection tables, ip_vs_conn and ip_vs_conn_sync.
        #[arg(long)]
        no_connections: bool,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(clap::Args, Debug)]
struct TraceOptions {
    /// The packet in hexadecimal digits: an Ethernet frame, or an IP packet; - for standard input.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["from", "to"], required_unless_present = "from")]
    packet: Option<String>,
    /// Source address and port of a packet to be made.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "to")]
    from: Option<SocketAddr>,
    /// Its destination.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "from")]
    to: Option<SocketAddr>,
    /// Its transport protocol.
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp", value_parser = ["tcp", "udp", "sctp"],
          ignore_case = true, conflicts_with = "packet")]
    protocol: String,
    /// Its TCP flags: letters of S, A, F, R, P and U; of SCTP, S is an INIT, R an ABORT, F a SHUTDOWN.
    #[arg(long, value_name = "LETTERS", default_value = "S", value_parser = probe::parse_flags,
          conflicts_with = "packet")]
    flags: u8,
    /// Its TTL or hop limit.
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "packet")]
    ttl: u8,
    /// Octets of the IP packet, if more than its headers.
    #[arg(long, value_name = "OCTETS", conflicts_with = "packet")]
    length: Option<u16>,
    /// The interface that receives it; else the one that it is addressed to, or by which the way leads back.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// As a JSON array of objects, one a step.
    #[arg(long)]
    json: bool,
}

impl TraceOptions {
    /// The packet in hexadecimal digits, known to be such.
    fn hex(&self) -> Result<String, String> {
        if let Some(hex) = &self.packet {
            let hex = if hex == "-" { client::read_rules(Path::new("-"))? } else { hex.clone() };
            return probe::from_hex(&hex).map(|_| hex);
        }
        let (Some(from), Some(to)) = (self.from, self.to) else { return Err("no packet".into()) };
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let packet = Probe { from, to, protocol, flags: self.flags, ttl: self.ttl, length: self.length }.build()?;
        Ok(hex::encode(&packet))
    }
}

/// `lvx trace`. What is wrong with the packet is wrong usage: status 2.
fn trace(socket: &Path, options: &TraceOptions) -> Result<u8, String> {
    let hex = match options.hex() {
        Ok(hex) => hex,
        Err(text) => {
            eprintln!("lvx: {text}");
            return Ok(2);
        }
    };
    let mut words = vec!["trace"];
    if let Some(interface) = &options.interface {
        words.extend(["--interface", interface]);
    }
    if options.json {
        words.push("--json");
    }
    client::lvx(socket, &words, Some(&hex))
}

/// Asks by a word with those of `options` that are on; again and again if `watch` says every how many seconds.
fn show(socket: &Path, word: &str, options: &[(bool, &str)], watch: Option<u16>) -> Result<u8, String> {
    let options = options.iter().filter_map(|(is_on, option)| is_on.then_some(*option));
    let words: Vec<&str> = std::iter::once(word).chain(options).collect();
    match watch {
        Some(seconds) => client::lvx_every(socket, &words, seconds),
        None => client::lvx(socket, &words, None),
    }
}

/// `lvx sysctl -p FILE`.
fn load_sysctls(socket: &Path, path: &Path) -> Result<u8, String> {
    let refused = |text: String| format!("{}: {text}", path.display());
    let text = match path.as_os_str() == "-" {
        true => io::read_to_string(io::stdin()),
        false => std::fs::read_to_string(path),
    };
    let text = text.map_err(|error| refused(error.to_string()))?;
    let settings = sysctl::parse_file(&text).map_err(|line| refused(format!("line {line} is not NAME = VALUE")))?;
    let settings: Vec<String> = settings.iter().map(|(_, name, value)| format!("{name}={value}")).collect();
    let words = ["sysctl", "--all-or-none"].into_iter().chain(settings.iter().map(String::as_str));
    client::lvx(socket, &words.collect::<Vec<_>>(), None)
}

#[derive(Subcommand, Debug)]
enum MarkCommand {
    /// Replace the rules of one family by those of a file; refused whole if any rule is.
    #[command(after_help = "Of the table mangle, PREROUTING and INPUT count. Examples:\n  \
                            iptables-save -t mangle | lvx mark load -\n  lvx mark load /etc/lvx.marks")]
    Load {
        #[command(flatten)]
        family: FamilyChoice,
        /// What iptables-save or ip6tables-save printed; - for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the rules as iptables-save and ip6tables-save do.
    List {
        #[command(flatten)]
        family: FamilyChoice,
    },
}

#[derive(Subcommand, Debug)]
enum SyncCommand {
    /// Show role, peers, lag, what was lost and repaired, and resyncs.
    Status {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Have this backup ask its masters for their whole tables.
    Resync,
}

fn sync(socket: &Path, command: &SyncCommand) -> Result<u8, String> {
    let words: &[&str] = match command {
        SyncCommand::Status { json: false } => &["sync", "status"],
        SyncCommand::Status { json: true } => &["sync", "status", "--json"],
        SyncCommand::Resync => &["sync", "resync"],
    };
    client::lvx(socket, words, None)
}

#[derive(Subcommand, Debug)]
enum LocalAddressCommand {
    /// Give addresses to new connections, all of them or none.
    Add {
        /// Addresses of the director.
        #[arg(value_name = "ADDRESS", required = true)]
        addresses: Vec<String>,
    },
    /// Give addresses to no new connection, all of them or none; those that have them keep them.
    Delete {
        /// Addresses of the pool.
        #[arg(value_name = "ADDRESS", required = true)]
        addresses: Vec<String>,
    },
    /// Show the pool.
    List,
}

fn local_address(socket: &Path, command: &LocalAddressCommand) -> Result<u8, String> {
    let (word, addresses): (&str, &[String]) = match command {
        LocalAddressCommand::Add { addresses } => ("add", addresses),
        LocalAddressCommand::Delete { addresses } => ("delete", addresses),
        LocalAddressCommand::List => ("list", &[]),
    };
    let words: Vec<&str> = ["local-address", word].into_iter().chain(addresses.iter().map(String::as_str)).collect();
    client::lvx(socket, &words, None)
}

#[derive(clap::Args, Debug)]
#[group(multiple = false)]
struct FamilyChoice {
    /// Rules of IPv4.
    #[arg(short = '4')]
    v4: bool,
    /// Rules of IPv6.
    #[arg(short = '6')]
    v6: bool,
}

impl FamilyChoice {
    fn word(&self) -> Option<&'static str> {
        if self.v4 { Some("-4") } else { self.v6.then_some("-6") }
    }
}

fn mark(socket: &Path, command: &MarkCommand) -> Result<u8, String> {
    match command {
        MarkCommand::Load { family, file } => {
            let words: Vec<&str> = ["mark", "load"].into_iter().chain(family.word()).chain(["-"]).collect();
            client::lvx(socket, &words, Some(&client::read_rules(file)?))
        }
        MarkCommand::List { family } => {
            let words: Vec<&str> = ["mark", "list"].into_iter().chain(family.word()).collect();
            client::lvx(socket, &words, None)
        }
    }
}

/// `lvx proc`.
fn write_proc(socket: &Path, options: &ProcOptions, once: bool) -> Result<u8, String> {
    logging::start();
    if once {
        return proc_files::once(socket, options).map(|()| 0);
    }
    proc_files::run(socket, options).map(|()| 0).map_err(|error| error.text)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let status = match arguments.command {
        Command::Status { json } => {
            let words: &[&str] = if json { &["status", "--json"] } else { &["status"] };
            client::lvx(&arguments.socket, words, None)
        }
        Command::Vrrp { json } => show(&arguments.socket, "vrrp", &[(json, "--json")], None),
        Command::Sync { command } => sync(&arguments.socket, &command),
        Command::LocalAddress { command } => local_address(&arguments.socket, &command),
        Command::Drops { all, json, watch } => {
            show(&arguments.socket, "drops", &[(all, "--all"), (json, "--json")], watch)
        }
        Command::Latency { json, reset, watch } => {
            show(&arguments.socket, "latency", &[(json, "--json"), (reset, "--reset")], watch)
        }
        Command::Trace(options) => trace(&arguments.socket, &options),
        Command::Mark { command } => mark(&arguments.socket, &command),
        Command::Sysctl { all: true, .. } => client::lvx(&arguments.socket, &["sysctl", "-a"], None),
        Command::Sysctl { load: Some(path), .. } => load_sysctls(&arguments.socket, &path),
        Command::Sysctl { knobs, .. } => {
            let words: Vec<&str> = std::iter::once("sysctl").chain(knobs.iter().map(String::as_str)).collect();
            client::lvx(&arguments.socket, &words, None)
        }
        Command::Replay { net, steps: Some(steps), trace, .. } => {
            if steps.as_os_str() == "-" {
                offline::steps(&net, trace, BufReader::new(io::stdin()))
            } else {
                offline::steps_file(&net, trace, &steps)
            }
        }
        Command::Replay { net, rules, input, output, conns, stats, .. } => {
            let files = offline::CaptureFiles { net, rules, input, output, conns, stats };
            offline::capture(&files)
        }
        Command::Proc { directory, interval, once, no_connections } => {
            let options = ProcOptions { directory, interval_s: interval, connections: !no_connections };
            write_proc(&arguments.socket, &options, once)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "lvx", &mut io::stdout());
            return ExitCode::SUCCESS;
        }
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(text) => {
            eprintln!("lvx: {text}");
            ExitCode::FAILURE
        }
    }
}
