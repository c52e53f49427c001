//! The director.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Parser, ValueEnum};
use lvx::config::Invocation;
use lvx::config::options::{self as keepalived_options, FILE_DEFAULT};
use lvx::conn::helper::HELPER_PORTS_MAX;
use lvx::control::sync::resync::{RATE_DEFAULT, ResyncOptions};
use lvx::host::check_file::{self, Detail};
use lvx::host::options::{ExitStatus, Options, SOCKET_DEFAULT, SOCKET_VARIABLE, StartError};
use lvx::host::proc_files::{INTERVAL_DEFAULT_S, ProcOptions};
use lvx::host::xdp::AttachMode;
use lvx::host::{cpus, logging, run};

/// lvx director: Linux Virtual Server in user space, packets from AF_XDP.
///
/// Runs in the foreground until SIGTERM or SIGINT. Everything that is no packet of a virtual service passes to the
/// kernel untouched. Configure it with ipvsadm's commands through lvxadm.
#[derive(Parser, Debug)]
#[command(
    name = "lvxd",
    version,
    after_help = EXIT_STATUSES,
    group = ArgGroup::new("task").args(["interface", "config", "config_test", "dump_conf"]).required(true).multiple(true)
)]
struct Arguments {
    /// Interfaces to serve; packets are balanced on and between them. Without any, and with --config, VRRP runs alone.
    #[arg(short, long, value_name = "IF[,IF…]", value_delimiter = ',')]
    interface: Vec<String>,

    /// keepalived.conf: virtual routers. SIGHUP reads it anew. [-t and --dump-conf: /etc/keepalived/keepalived.conf]
    #[arg(short = 'f', long, visible_alias = "use-file", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Which lines `@ID` of the keepalived.conf hold [default: the first label of the machine's name].
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,

    /// Test the keepalived.conf and end: 0 without a fault, 5 with errors, 6 with scripts that others could change, 2 when
    /// nothing can run with it.
    #[arg(short = 't', long)]
    config_test: bool,

    /// Print what the keepalived.conf was understood as, in keepalived's form, and end.
    #[arg(long, conflicts_with = "config_test")]
    dump_conf: bool,

    /// Worker threads [default: as many as the interface with the fewest receive queues has].
    #[arg(short, long, value_name = "N", conflicts_with = "cpus", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,

    /// Processors to pin workers to, one worker each: 2,4-6 [default: near the interfaces].
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,

    /// Where the XDP program runs: in the driver, on socket buffers, or the best that the driver can.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    xdp_mode: Mode,

    /// Control socket.
    #[arg(long, value_name = "PATH", env = SOCKET_VARIABLE, default_value = SOCKET_DEFAULT)]
    socket: PathBuf,

    /// Group that may use the control socket (mode 0660 then, 0600 otherwise).
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,

    /// Rules to begin with, as `ipvsadm-save -n` writes them; refused whole if any line is.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Rules that mark packets for services of firewall marks (ipvsadm -f), as `iptables-save` or `ip6tables-save`
    /// writes them; may be repeated, once for each family.
    #[arg(long, value_name = "FILE")]
    marks: Vec<PathBuf>,

    /// File like /etc/sysctl.conf, whose lines for net.ipv4.vs are set; may be repeated.
    #[arg(long, value_name = "FILE")]
    sysctl_file: Vec<PathBuf>,

    /// Set a knob of net.ipv4.vs; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,

    /// Size of the connection table as a power of two, as ip_vs' module parameter; listings print it.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u8).range(8..=27))]
    conn_tab_bits: u8,

    /// Most connections of each address family; their memory is taken at the start.
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=1 << 27))]
    conn_max: u32,
    /// Take the connection table's memory as it is needed, not at the start: new connections may wait for a page
    #[arg(long)]
    lazy_memory: bool,

    /// Addresses of the director that stand in for clients: the pool of full NAT (see lvx local-address).
    #[arg(long, value_name = "ADDRESS[,ADDRESS…]", value_delimiter = ',')]
    local_address: Vec<IpAddr>,

    /// Help FTP through masquerading at these ports (at most 8), as the module ip_vs_ftp does [ports without a value: 21].
    #[arg(long, value_name = "PORT[,PORT…]", value_delimiter = ',', num_args = 0..=1, default_missing_value = "21",
          value_parser = clap::value_parser!(u16).range(1..))]
    ftp: Option<Vec<u16>>,

    /// Let system calls poll the driver for so many microseconds instead of waiting for interrupts.
    #[arg(long, value_name = "MICROSECONDS")]
    busy_poll: Option<u32>,

    /// Do not resynchronise with other directors: what sync daemons do is what the kernel's do.
    #[arg(long)]
    no_resync: bool,

    /// The master that a sync backup asks for its whole table, without having heard it [default: each that it hears].
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_resync")]
    resync_peer: Option<IpAddr>,

    /// TCP port at which directors ask for tables [default: the number of the sync daemon's UDP port, 8848].
    #[arg(long, value_name = "PORT", conflicts_with = "no_resync", value_parser = clap::value_parser!(u16).range(1..))]
    resync_port: Option<u16>,

    /// Connections a second that a master tells of at most when its table is asked for.
    #[arg(long, value_name = "N", conflicts_with = "no_resync", default_value_t = RATE_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1000..))]
    resync_rate: u32,

    /// Keep files like /proc/net/ip_vs* in DIR/net, for programs that read those (see lvx proc).
    #[arg(long, value_name = "DIR")]
    proc: Option<PathBuf>,

    /// Seconds between two texts of a file of --proc.
    #[arg(long, value_name = "SECONDS", requires = "proc", default_value_t = INTERVAL_DEFAULT_S,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    proc_interval: u16,

    /// Leave the connection tables out of the files of --proc.
    #[arg(long, requires = "proc")]
    proc_no_connections: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Native where the driver can, else skb.
    Auto,
    /// In the driver, or an error.
    Native,
    /// On socket buffers: slow, for drivers without XDP.
    Skb,
}

const EXIT_STATUSES: &str = "\
Exit status: 0 ended by a signal; 1 other failure; 2 wrong arguments; 3 missing rights; 4 interface absent or unfit;
5 queue, XDP hook, socket or files in use; 6 rules, knobs or configuration refused.";

/// Called by the name keepalived, the program takes keepalived's options.
fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    if name.rsplit('/').next() == Some("keepalived") {
        return keepalived(&words.collect::<Vec<_>>());
    }
    let arguments = Arguments::parse();
    let invocation = invocation(&arguments);
    if arguments.config_test {
        return check_file::test(&invocation, Detail::Helpful);
    }
    if arguments.dump_conf {
        return check_file::dump(&invocation, Detail::Helpful);
    }
    logging::start();
    match options(arguments).and_then(run::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lvxd: {error}");
            ExitCode::from(error.exit as u8)
        }
    }
}

/// Which keepalived.conf is meant.
fn invocation(arguments: &Arguments) -> Invocation {
    let file = arguments.config.as_ref().map_or(FILE_DEFAULT.to_owned(), |path| path.to_string_lossy().into_owned());
    Invocation { file, identity: arguments.config_id.clone() }
}

/// keepalived's own command line, as far as it tests configurations.
fn keepalived(words: &[String]) -> ExitCode {
    let command = match keepalived_options::parse(words) {
        Ok(command) => command,
        Err(text) => {
            eprintln!("keepalived: {text}");
            return ExitCode::FAILURE;
        }
    };
    let invocation = Invocation { file: command.file, identity: command.identity };
    if command.shows_version {
        eprintln!("lvx {} in place of keepalived", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if command.tests {
        return check_file::test(&invocation, Detail::Plain);
    }
    if command.dumps {
        return check_file::dump(&invocation, Detail::Plain);
    }
    eprintln!("keepalived: by this name only -t, -d and -v work; start lvxd for the rest");
    ExitCode::FAILURE
}

fn options(arguments: Arguments) -> Result<Options, StartError> {
    let usage = |text: String| StartError::new(ExitStatus::Usage, text);
    let cpus = arguments.cpus.as_deref().map(cpus::parse_list).transpose().map_err(usage)?;
    let configuration = arguments.config.is_some().then(|| invocation(&arguments));
    let ftp_ports = arguments.ftp.unwrap_or_default();
    if ftp_ports.len() > HELPER_PORTS_MAX {
        return Err(usage(format!("--ftp takes at most {HELPER_PORTS_MAX} ports")));
    }
    let mut sysctls = Vec::new();
    for word in &arguments.sysctl {
        let pair = word.split_once('=').ok_or_else(|| usage(format!("--sysctl takes NAME=VALUE, not `{word}'")))?;
        sysctls.push((pair.0.trim().to_owned(), pair.1.trim().to_owned()));
    }
    Ok(Options {
        interfaces: arguments.interface,
        configuration,
        workers: arguments.workers.map(usize::from),
        cpus,
        xdp_mode: match arguments.xdp_mode {
            Mode::Auto => AttachMode::Auto,
            Mode::Native => AttachMode::Native,
            Mode::Skb => AttachMode::Skb,
        },
        socket: arguments.socket,
        socket_group: arguments.socket_group,
        rules: arguments.rules,
        sysctl_files: arguments.sysctl_file,
        marks: arguments.marks,
        sysctls,
        conn_tab_bits: arguments.conn_tab_bits,
        connections_max: arguments.conn_max,
        lazy_memory: arguments.lazy_memory,
        ftp_ports,
        local_addresses: arguments.local_address.into_iter().map(Into::into).collect(),
        busy_poll_us: arguments.busy_poll,
        resync: (!arguments.no_resync).then_some(ResyncOptions {
            port: arguments.resync_port,
            peer: arguments.resync_peer.map(Into::into),
            rate: arguments.resync_rate,
            // Chance comes with the start.
            seed: 0,
        }),
        proc: arguments.proc.map(|directory| ProcOptions {
            directory,
            interval_s: arguments.proc_interval,
            connections: !arguments.proc_no_connections,
        }),
    })
}
